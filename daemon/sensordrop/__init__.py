"""sensordrop takes field sensors' SD-card dumps from watched folders into S3, provably whole."""
