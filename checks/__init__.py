"""One problem, one file, one name. Nobody imports a check by module name: see the registry."""
