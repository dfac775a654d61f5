module example.com/library

go 1.26.0

require github.com/infrapuzzle/kscertctl v0.1.0
