package main

import (
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// dynamoArgs returns the flags as a command line sets them.
func dynamoArgs(t *testing.T, args ...string) (d dynamoFlags, engine string) {
	t.Helper()
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	defineEngine(fs, &engine)
	d.define(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return d, engine
}

// noAWS takes away what the machine says of AWS.
func noAWS(t *testing.T) {
	t.Helper()
	for _, setting := range os.Environ() {
		if name, value, _ := strings.Cut(setting, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, value) // to have it back
			os.Unsetenv(name)
		}
	}
	nothing := filepath.Join(t.TempDir(), "nothing")
	t.Setenv("AWS_CONFIG_FILE", nothing)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nothing)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func TestFlagsOfDynamoDBAreChecked(t *testing.T) {
	for _, tt := range []struct {
		args  []string
		error string
	}{
		{nil, ""},
		{[]string{"--dynamodb-endpoint", "http://127.0.0.1:8000"}, ""},
		{[]string{"--dynamodb-endpoint", "127.0.0.1:8000"}, "--dynamodb-endpoint is"},
		{[]string{"--dynamodb-prefix", ""}, "--dynamodb-prefix is empty"},
		{[]string{"--store", "mysql"}, "--store is"},
		{[]string{"--store", "dynamodb"}, ""},
	} {
		d, engine := dynamoArgs(t, tt.args...)
		err := d.check()
		if err == nil {
			err = checkEngine(engine)
		}
		if (err == nil) != (tt.error == "") || err != nil && !strings.Contains(err.Error(), tt.error) {
			t.Errorf("%v: %v, want %q", tt.args, err, tt.error)
		}
	}
}

func TestWhatAWSDoesNotSayIsAskedFor(t *testing.T) {
	noAWS(t)
	d, _ := dynamoArgs(t)
	if _, err := d.options(t.Context()); err == nil || !strings.Contains(err.Error(), "--dynamodb-region is missing") {
		t.Errorf("without a region: %v", err)
	}
	t.Setenv("AWS_REGION", "eu-central-1")
	if _, err := d.options(t.Context()); err == nil || !strings.Contains(err.Error(), "AWS_ACCESS_KEY_ID") {
		t.Errorf("without credentials: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	o, err := d.options(t.Context())
	if err != nil || o.AWS.Region != "eu-central-1" || o.Prefix != "timberline" {
		t.Errorf("region %q, prefix %q, %v", o.AWS.Region, o.Prefix, err)
	}
}

func TestDynamoDBIsAskedWhereAndAsWhomTheFlagsSay(t *testing.T) {
	noAWS(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	var asked, signed string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked, signed = string(body), r.Header.Get("Authorization")
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"}`)
	}))
	defer server.Close()
	d, _ := dynamoArgs(t, "--dynamodb-endpoint", server.URL, "--dynamodb-prefix", "mine", "--dynamodb-region", "eu-north-1")
	_, err := d.open(t.Context(), slog.New(slog.DiscardHandler), nil)
	if err == nil || !strings.Contains(err.Error(), "there is no table mine-log in region eu-north-1") {
		t.Errorf("open: %v, want what to do about the missing table", err)
	}
	if !strings.Contains(asked, "mine-log") || !strings.Contains(signed, "Credential=key/") || !strings.Contains(signed, "/eu-north-1/dynamodb/") {
		t.Errorf("asked %s, signed %s", asked, signed)
	}
}

func TestDynamoDBThatDoesNotAnswerIsNamedWithItsFlag(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-north-1")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	at := []string{"--dynamodb-endpoint", "http://" + gone.Addr().String()}
	says := "DynamoDB does not answer at http://" + gone.Addr().String() + ": see that it runs there, or correct --dynamodb-endpoint"
	tl(t, with("projector", at)...).want(t, exitFailed, "", says)
	for _, what := range []string{"plan", "up", "status"} {
		tl(t, with("migrate", []string{what, "--store", "dynamodb"}, at...)...).want(t, exitFailed, "", says)
	}
	tl(t, with("migrate", []string{"restored", "--stopped", "--store", "dynamodb"}, at...)...).want(t, exitFailed, "", says)
}
