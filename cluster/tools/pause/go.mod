module zenop.dev/tools/pause

go 1.26.0
