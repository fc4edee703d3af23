// What a container runtime does with a network configuration, by the library that containerd and CRI-O use.
//
//	CNI_PATH=/usr/lib/cni CNI_ARGS='K8S_POD_NAME=…' runtime ADD|CHECK|DEL CONFLIST NETNS ID CACHE
//
// Prints the result, or the plugin's error, as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: runtime ADD|CHECK|DEL CONFLIST NETNS ID CACHE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		var told *types.Error
		if !errors.As(err, &told) {
			told = &types.Error{Msg: err.Error()}
		}
		_ = json.NewEncoder(os.Stdout).Encode(told)
		os.Exit(1)
	}
}

func run(command, conflist, netns, id, cache string) error {
	list, err := libcni.ConfListFromFile(conflist)
	if err != nil {
		return err
	}
	network := libcni.NewCNIConfigWithCacheDir(filepath.SplitList(os.Getenv("CNI_PATH")), cache, nil)
	runtime := &libcni.RuntimeConf{ContainerID: id, NetNS: netns, IfName: "eth0"}
	for _, pair := range strings.Split(os.Getenv("CNI_ARGS"), ";") {
		if name, value, found := strings.Cut(pair, "="); found {
			runtime.Args = append(runtime.Args, [2]string{name, value})
		}
	}
	ctx := context.Background()
	switch command {
	case "ADD":
		result, err := network.AddNetworkList(ctx, list, runtime)
		if err != nil {
			return err
		}
		return result.Print()
	case "CHECK":
		return network.CheckNetworkList(ctx, list, runtime)
	case "DEL":
		return network.DelNetworkList(ctx, list, runtime)
	}
	return fmt.Errorf("%s: no such command", command)
}
