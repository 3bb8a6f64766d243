"""Many packets a system call, wherever sockets of this kernel take them."""
