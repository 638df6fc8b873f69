package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/prometheus/client_golang/prometheus"

	"timberline/events"
	"timberline/store/dynamo"
)

// The engines that --store names.
const (
	enginePebble   = "pebble"
	engineDynamoDB = "dynamodb"
)

// defineEngine adds --store to a set of flags.
func defineEngine(fs *flag.FlagSet, engine *string) {
	fs.StringVar(engine, "store", enginePebble, "where everything is stored: `pebble` (in the data folder) or dynamodb")
}

func checkEngine(engine string) error {
	if engine != enginePebble && engine != engineDynamoDB {
		return wrong("store", "is %q, want %s or %s", engine, enginePebble, engineDynamoDB)
	}
	return nil
}

// dynamoFlags say which store of DynamoDB is meant. Credentials are none of them: they
// come from where all programs of AWS look for them.
type dynamoFlags struct{ prefix, endpoint, region string }

// define adds the flags, with their defaults.
func (d *dynamoFlags) define(fs *flag.FlagSet) {
	fs.StringVar(&d.prefix, "dynamodb-prefix", "timberline", "what the `names` of the store's tables begin with")
	fs.StringVar(&d.endpoint, "dynamodb-endpoint", "", "`URL` of another DynamoDB than that of the region, such as http://127.0.0.1:8000 for DynamoDB Local")
	fs.StringVar(&d.region, "dynamodb-region", "", "`region` of AWS, such as eu-central-1 (default: AWS_REGION, or that of the AWS profile)")
}

// check finds what is wrong. The error names the flag.
func (d *dynamoFlags) check() error {
	if d.prefix == "" {
		return wrong("dynamodb-prefix", "is empty, want a name, such as timberline")
	}
	if d.endpoint == "" {
		return nil
	}
	if u, err := url.Parse(d.endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return wrong("dynamodb-endpoint", "is %q, want a URL such as http://127.0.0.1:8000", d.endpoint)
	}
	return nil
}

// options returns how the store is called, with the credentials that the process has: of
// the environment, a profile, or the machine's role.
func (d *dynamoFlags) options(ctx context.Context) (dynamo.Options, error) {
	// What matters of what the SDK would log comes as an error, too.
	cfg, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(d.region), awsconfig.WithLogger(logging.Nop{}))
	if err != nil {
		return dynamo.Options{}, fmt.Errorf("configuration of AWS: %w", err)
	}
	if cfg.Region == "" {
		return dynamo.Options{}, wrong("dynamodb-region", "is missing, and AWS_REGION is not set: want a region, such as eu-central-1")
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return dynamo.Options{}, fmt.Errorf("there are no credentials for DynamoDB: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the machine a role (%w)", err)
	}
	if d.endpoint != "" {
		cfg.BaseEndpoint = aws.String(d.endpoint)
	}
	return dynamo.Options{AWS: cfg, Prefix: d.prefix}, nil
}

// awsSettings returns the settings in the environment that options reads: no files.
func awsSettings() (all []string) {
	for _, setting := range os.Environ() {
		if strings.HasPrefix(setting, "AWS_") {
			all = append(all, setting)
		}
	}
	return all
}

// open opens the store. It has to be there: see timberline migrate.
func (d *dynamoFlags) open(ctx context.Context, logger *slog.Logger, metrics prometheus.Registerer) (*dynamo.Store, error) {
	o, err := d.options(ctx)
	if err != nil {
		return nil, err
	}
	o.Logger, o.Metrics = logger, metrics
	s, err := dynamo.Open(ctx, o)
	return s, d.advise(notWhole(err, d.flags()+" --stopped"))
}

// flags returns the flags that name the store.
func (d *dynamoFlags) flags() string {
	s := "--store dynamodb --dynamodb-prefix " + quoted(d.prefix)
	if d.region != "" {
		s += " --dynamodb-region " + quoted(d.region)
	}
	if d.endpoint != "" {
		s += " --dynamodb-endpoint " + quoted(d.endpoint)
	}
	return s
}

// advise says what to do about a DynamoDB that was not to be reached, and about what is stored
// there and cannot be read.
func (d *dynamoFlags) advise(err error) error {
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.Is(err, events.ErrFormat):
		return fmt.Errorf("%w: use the version of timberline that wrote it, or a newer one", err)
	case errors.Is(err, events.ErrCorrupt):
		return fmt.Errorf("%w: log, journals and checkpoints come back from a backup (docs/operations.md, Backup and restore), timelines by timberline verify --repair %s", err, d.flags())
	case !errors.As(err, &unsent):
		return err
	case d.endpoint != "":
		return fmt.Errorf("DynamoDB does not answer at %s: see that it runs there, or correct --dynamodb-endpoint (%w)", d.endpoint, err)
	}
	return fmt.Errorf("DynamoDB does not answer: see that this machine reaches AWS, and that --dynamodb-region or AWS_REGION is a region (%w)", err)
}
