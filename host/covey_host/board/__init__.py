"""From a member's directory to a flashed board: board files, images, and what writes them."""
