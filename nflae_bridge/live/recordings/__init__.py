"""Record the messages of streams and the requests to servers, and send them again."""
