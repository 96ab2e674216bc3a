"""Where cells lie to each other: neighbour graph, tiles, rasterised cells. All distances in µm."""
