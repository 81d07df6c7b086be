"""What an installation on several machines is made of; local_cluster starts all of it on one."""
