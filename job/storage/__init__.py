"""Where bytes live: a folder or a bucket behind one interface, downloads over HTTP, and files that are written whole."""
