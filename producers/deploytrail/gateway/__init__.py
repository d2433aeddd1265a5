"""The HTTP gateway: what runs where no broker can be reached reports here (extra `gateway`)."""
