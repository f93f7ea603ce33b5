"""How far a decoded picture is from the original."""
