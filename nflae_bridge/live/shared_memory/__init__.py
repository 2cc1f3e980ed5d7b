"""Exchange large arrays between a server and the clients on its host through sealed memory of the clients."""
