// Command witness is the canary workload, which must survive a repair without a restart: it
// prints a numbered line per second until it is stopped. With the URL of an API server as its
// argument, it writes there ten times per second, like any pod, and prints each failure. With
// "serve ADDRESS GROUP/VERSION" it is an aggregated API server.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		if err := serve(ctx, os.Args[2], os.Args[3]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	pause, act := time.Second, func(i int) string { return fmt.Sprintf("witness %d", i) }
	if len(os.Args) > 1 {
		pause, act = 100*time.Millisecond, func(i int) string { return write(ctx, os.Args[1], i) }
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := 0; ; i++ {
		if output := act(i); output != "" && ctx.Err() == nil {
			fmt.Printf("%s %s\n", output, time.Now().UTC().Format(time.RFC3339Nano))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// account is where a pod finds its service account.
const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

// write changes the config map "writes" over a new connection, and returns a line if the
// result is worth one. It waits as long as the tests' other clients, since on a busy machine etcd
// alone may take seconds.
func write(ctx context.Context, server string, i int) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := patch(ctx, server, i); err != nil {
		return fmt.Sprintf("failed %d: %v", i, err)
	}
	if i%10 == 0 {
		return fmt.Sprintf("written %d", i)
	}
	return ""
}

func patch(ctx context.Context, server string, i int) error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return err
	}
	space, err := os.ReadFile(account + "namespace")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	url := fmt.Sprintf("%s/api/v1/namespaces/%s/configmaps/writes", server, space)
	request, err := http.NewRequestWithContext(ctx, http.MethodPatch, url,
		bytes.NewBufferString(fmt.Sprintf(`{"data":{"count":"%d"}}`, i)))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/merge-patch+json")
	request.Header.Set("Authorization", "Bearer "+string(token))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{RootCAs: pool}}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	output, _ := io.ReadAll(response.Body)
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200s", response.Status, output)
	}
	return nil
}
