"""The offload tier: many packets a system call, where the portable tier takes one."""
