"""argv -> call -> print -> exit code: the only room that prints."""
