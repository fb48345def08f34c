module airflow-knative/mirror/flannel-cni

go 1.26

require (
	github.com/containernetworking/cni v1.3.0 // indirect
	github.com/vishvananda/netns v0.0.4 // indirect
	golang.org/x/sys v0.23.0 // indirect
)
