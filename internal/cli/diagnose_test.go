package cli

import (
	"bytes"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/infrapuzzle/kscertctl/orchestrator"
	"github.com/infrapuzzle/kscertctl/orchestrator/diagnosis"
	"github.com/infrapuzzle/kscertctl/orchestrator/report"
	"github.com/infrapuzzle/kscertctl/orchestrator/snapshot"

	"github.com/spf13/cobra"
)

// A runbook calls Ansible as diagnose was called, from any directory, and shows nothing that may be
// secret.
func TestByHand(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	cmd := newDiagnose(Streams{Out: &out, Err: &out})
	var hand *report.ByHand
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		var opts orchestrator.Options
		opts.Ansible.Args, opts.Ansible.BinDir = []string{"--flush-cache"}, "venv/bin"
		taken := snapshot.Snapshot{Taken: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
		hand, err = byHand(cmd, opts, taken, diagnosis.Thresholds{RenewBefore: time.Hour})
		return err
	}
	cmd.SetArgs([]string{
		"-i", "a.ini", "--inventory", "x,y", "-u", "root", "-b", "-K", "-e", "password=canary", "-e", "@vars.yml", "-v",
		"--ssh-common-args", "-o ProxyCommand=canary", "--ansible-bin", "venv/bin", "--runbook",
	})
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"-i", here + "/a.ini", "-i", "x,y", "-u", "root", "-e", "@" + here + "/vars.yml", "-K"}
	omitted := []string{"-e", "--ssh-common-args", "options after --"}
	if !slices.Equal(hand.Ansible, want) || !slices.Equal(hand.Omitted, omitted) || hand.BinDir != here+"/venv/bin" {
		t.Errorf("%+v", hand)
	}
	of := hand.Settings
	if of.Run != "manual-20260301T120000Z" || of.RenewBefore != time.Hour ||
		of.BackupRoot != orchestrator.DefaultBackupRoot || of.Wait != 5*time.Minute {
		t.Errorf("%+v", of)
	}
}
