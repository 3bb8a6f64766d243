"""One shell that drives either role: loop, clock, control socket, service manager."""
