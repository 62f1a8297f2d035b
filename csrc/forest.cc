// placeholder while the core is being written
