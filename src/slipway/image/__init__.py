"""Images: from images/hierarchy.yml and the locks to local images, and from those to a registry."""
