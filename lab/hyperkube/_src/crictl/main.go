// Command crictl is a small CRI command line for lab nodes, for where the
// upstream one is not published as a Go module that can be had. It keeps the
// upstream flags, their meaning and the output that scripts and playbooks read;
// what it does not know it refuses loudly. As upstream, flags come before
// arguments.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const defaultConfig = "/etc/crictl.yaml"

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintf(os.Stderr, "FATA[0000] %v\n", err)
		os.Exit(1)
	}
}

// client is the connection to the container runtime, made when first needed.
type client struct {
	config, runtimeEndpoint, imageEndpoint string
	timeout                                time.Duration
	debug                                  bool

	runtime cri.RuntimeServiceClient
	image   cri.ImageServiceClient
}

func newCommand() *cobra.Command {
	c := &client{}
	root := &cobra.Command{
		Use: "crictl", Short: "client for CRI (lab build)",
		Version:      "lab",
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return c.connect(cmd) },
	}
	root.SetVersionTemplate("crictl version {{.Version}}\n")
	f := root.PersistentFlags()
	f.StringVarP(&c.config, "config", "c", envOr("CRI_CONFIG_FILE", defaultConfig), "client config file")
	f.StringVarP(&c.runtimeEndpoint, "runtime-endpoint", "r", os.Getenv("CONTAINER_RUNTIME_ENDPOINT"),
		"CRI runtime endpoint")
	f.StringVarP(&c.imageEndpoint, "image-endpoint", "i", os.Getenv("IMAGE_SERVICE_ENDPOINT"), "CRI image endpoint")
	f.DurationVar(&c.timeout, "timeout", 2*time.Second, "timeout of one request")
	f.BoolVarP(&c.debug, "debug", "D", false, "accepted, without effect")
	root.AddCommand(
		psCommand(c), podsCommand(c), stopCommand(c), rmCommand(c), stoppCommand(c), rmpCommand(c),
		inspectCommand(c), inspectpCommand(c), logsCommand(c), execCommand(c),
		imagesCommand(c), inspectiCommand(c), pullCommand(c),
		infoCommand(c), versionCommand(c),
	)
	for _, sub := range root.Commands() {
		sub.Flags().SetInterspersed(false)
	}
	root.Flags().SetInterspersed(false)
	return root
}

// connect reads the configuration file for what no flag has set and dials.
func (c *client) connect(cmd *cobra.Command) error {
	settings, err := readConfig(c.config)
	if err != nil && (c.config != defaultConfig || !os.IsNotExist(err)) {
		return err
	}
	if c.runtimeEndpoint == "" {
		c.runtimeEndpoint = settings["runtime-endpoint"]
	}
	if c.runtimeEndpoint == "" {
		c.runtimeEndpoint = "unix:///run/containerd/containerd.sock"
	}
	if c.imageEndpoint == "" {
		c.imageEndpoint = settings["image-endpoint"]
	}
	if c.imageEndpoint == "" {
		c.imageEndpoint = c.runtimeEndpoint
	}
	if s := settings["timeout"]; s != "" && !cmd.Flags().Changed("timeout") {
		if d, err := time.ParseDuration(s + "s"); err == nil && d > 0 {
			c.timeout = d
		}
	}
	rt, err := dial(c.runtimeEndpoint)
	if err != nil {
		return err
	}
	im := rt
	if c.imageEndpoint != c.runtimeEndpoint {
		if im, err = dial(c.imageEndpoint); err != nil {
			return err
		}
	}
	c.runtime, c.image = cri.NewRuntimeServiceClient(rt), cri.NewImageServiceClient(im)
	return nil
}

// request returns the context of one call; extra is what the call itself may
// take beyond the client's patience (a container's grace period, say).
func (c *client) request(cmd *cobra.Command, extra time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), c.timeout+extra)
}

func dial(endpoint string) (*grpc.ClientConn, error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "unix://" + endpoint
	}
	return grpc.NewClient(endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(16<<20)))
}

// readConfig reads the flat "key: value" file crictl is configured with.
func readConfig(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, line := range strings.Split(string(data), "\n") {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && !strings.HasPrefix(key, "#") {
			settings[strings.TrimSpace(key)] = strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return settings, nil
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
