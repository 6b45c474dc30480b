"""The image pool: versions of every primary as plain raw files with a block index beside them."""
