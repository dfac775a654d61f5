// Command client is a pod that uses the API through client-go, as operators and controllers do: it reads
// the config map "writes" 20 times per second, each time over a new connection, and prints each failure.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	config, err := rest.InClusterConfig()
	if err != nil {
		exit(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		exit(err)
	}
	url := config.Host + "/api/v1/namespaces/" + os.Args[1] + "/configmaps/writes"
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		switch err := get(ctx, client, url); {
		case ctx.Err() != nil:
		case err != nil:
			fmt.Printf("failed %s %v\n", time.Now().UTC().Format(time.TimeOnly), err)
		case i%20 == 0:
			fmt.Println("asked", i)
		}
		utilnet.CloseIdleConnectionsFor(client.Transport)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	output, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", response.Status, output)
	}
	return err
}

func exit(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
