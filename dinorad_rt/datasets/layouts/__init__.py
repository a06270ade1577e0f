"""Official download layouts, one reader per family of datasets. They read; they never write."""
