"""How what was held ends: settlements, those that the store could not take, and what is withdrawn."""
