// The process that holds a pod's namespaces on the lab's real nodes; needs nothing but Go.
module gsch.io/tools/pause

go 1.26.0
