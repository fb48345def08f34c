// The flannel CNI plugin: hands each pod's network to the "bridge" plugin, with the node's own part of the
// cluster network as flanneld left it in subnet.env. Configuration as in flannel's manifest:
//
//	{"type": "flannel", "subnetFile": "...", "dataDir": "...", "delegate": {"hairpinMode": true, ...}}
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
)

const (
	defaultSubnetFile = "/run/flannel/subnet.env"
	defaultDataDir    = "/var/lib/cni/flannel"
)

type config struct {
	types.NetConf
	SubnetFile string         `json:"subnetFile"`
	DataDir    string         `json:"dataDir"`
	Delegate   map[string]any `json:"delegate"`
	// RuntimeConfig is passed on, so that bandwidth and port mappings reach the delegate.
	RuntimeConfig map[string]any `json:"runtimeConfig,omitempty"`
}

type subnet struct {
	networks []string
	subnets  []string
	mtu      int
	masq     bool
}

func load(data []byte) (*config, error) {
	conf := &config{SubnetFile: defaultSubnetFile, DataDir: defaultDataDir}
	if err := json.Unmarshal(data, conf); err != nil {
		return nil, fmt.Errorf("flannel: cannot read the network configuration: %w", err)
	}
	if conf.Delegate == nil {
		conf.Delegate = map[string]any{}
	}
	for _, key := range []string{"name", "ipam"} {
		if _, found := conf.Delegate[key]; found {
			return nil, fmt.Errorf("flannel: %q must not stand in \"delegate\": flannel sets it", key)
		}
	}
	return conf, nil
}

// readSubnet parses flanneld's subnet.env: KEY=value lines, lists separated by commas.
func readSubnet(path string) (*subnet, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("flannel: flanneld has not written %s yet: %w", path, err)
	}
	defer file.Close()
	env := &subnet{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, found := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !found || value == "" {
			continue
		}
		switch key {
		case "FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK":
			env.networks = append(env.networks, strings.Split(value, ",")...)
		case "FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET":
			// flanneld writes its own address with the mask; the delegate wants the network's.
			_, network, err := net.ParseCIDR(value)
			if err != nil {
				return nil, fmt.Errorf("flannel: %s in %s: %w", key, path, err)
			}
			env.subnets = append(env.subnets, network.String())
		case "FLANNEL_MTU":
			if env.mtu, err = strconv.Atoi(value); err != nil {
				return nil, fmt.Errorf("flannel: FLANNEL_MTU in %s is %q, not a number", path, value)
			}
		case "FLANNEL_IPMASQ":
			env.masq = value == "true"
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("flannel: cannot read %s: %w", path, err)
	}
	if len(env.networks) == 0 || len(env.subnets) == 0 || env.mtu == 0 {
		return nil, fmt.Errorf("flannel: %s lacks FLANNEL_NETWORK, FLANNEL_SUBNET or FLANNEL_MTU", path)
	}
	return env, nil
}

// delegateConfig is what the delegate gets: the user's part, completed with this node's subnets and routes.
func delegateConfig(conf *config, env *subnet) map[string]any {
	delegate := conf.Delegate
	setDefault := func(key string, value any) {
		if _, found := delegate[key]; !found {
			delegate[key] = value
		}
	}
	delegate["name"] = conf.Name
	delegate["cniVersion"] = conf.CNIVersion
	if conf.RuntimeConfig != nil {
		delegate["runtimeConfig"] = conf.RuntimeConfig
	}
	setDefault("type", "bridge")
	// flanneld masquerades itself when it says so, and then the bridge must not.
	setDefault("ipMasq", !env.masq)
	setDefault("mtu", env.mtu)
	if delegate["type"] == "bridge" {
		setDefault("isGateway", true)
	}
	ranges, routes := []any{}, []any{}
	for _, cidr := range env.subnets {
		ranges = append(ranges, []any{map[string]any{"subnet": cidr}})
	}
	for _, network := range env.networks {
		routes = append(routes, map[string]any{"dst": network})
	}
	delegate["ipam"] = map[string]any{"type": "host-local", "ranges": ranges, "routes": routes}
	return delegate
}

func add(args *skel.CmdArgs) error {
	conf, err := load(args.StdinData)
	if err != nil {
		return err
	}
	env, err := readSubnet(conf.SubnetFile)
	if err != nil {
		return err
	}
	delegate := delegateConfig(conf, env)
	data, err := json.Marshal(delegate)
	if err != nil {
		return err
	}
	// DEL must see the same configuration, although the node's subnet may have changed by then.
	if err := os.MkdirAll(conf.DataDir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(conf.DataDir, args.ContainerID), data, 0o600); err != nil {
		return err
	}
	result, err := invoke.DelegateAdd(context.Background(), delegate["type"].(string), data, nil)
	if err != nil {
		return err
	}
	return result.Print()
}

// saved is what add left for this container; nil when there is none.
func saved(args *skel.CmdArgs) (path string, kind string, data []byte, err error) {
	conf, err := load(args.StdinData)
	if err != nil {
		return "", "", nil, err
	}
	path = filepath.Join(conf.DataDir, args.ContainerID)
	data, err = os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return path, "", nil, nil
	}
	if err != nil {
		return "", "", nil, err
	}
	var delegate types.NetConf
	if err := json.Unmarshal(data, &delegate); err != nil {
		return "", "", nil, fmt.Errorf("flannel: %s is damaged: %w", path, err)
	}
	return path, delegate.Type, data, nil
}

func del(args *skel.CmdArgs) error {
	path, kind, data, err := saved(args)
	if err != nil || data == nil {
		return err // nothing was added, so nothing is left to delete
	}
	if err := invoke.DelegateDel(context.Background(), kind, data, nil); err != nil {
		return err
	}
	return os.Remove(path)
}

func check(args *skel.CmdArgs) error {
	path, kind, data, err := saved(args)
	if err != nil {
		return err
	}
	if data == nil {
		return fmt.Errorf("flannel: %s is missing: the container was never added", path)
	}
	// The runtime's prevResult is only in this call's configuration.
	var delegate, call map[string]any
	if err := json.Unmarshal(data, &delegate); err != nil {
		return err
	}
	if err := json.Unmarshal(args.StdinData, &call); err != nil {
		return err
	}
	delegate["prevResult"] = call["prevResult"]
	if data, err = json.Marshal(delegate); err != nil {
		return err
	}
	return invoke.DelegateCheck(context.Background(), kind, data, nil)
}

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{Add: add, Del: del, Check: check}, version.All, "flannel CNI plugin")
}
