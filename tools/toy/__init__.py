"""A drawn dataset on which every command of this project runs in minutes on a laptop."""
