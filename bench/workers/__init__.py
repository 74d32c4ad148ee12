"""The programs that take part in a measurement, each in a process of its own. They obey JSON lines on stdin."""
