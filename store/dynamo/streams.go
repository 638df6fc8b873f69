package dynamo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"timberline/events"
	"timberline/projections/relay"
)

// A Stream is the stream of the timelines table: a relay.Stream.
type Stream struct {
	store *Store
	api   *dynamodbstreams.Client

	mu  sync.Mutex
	arn string // empty: not known yet, or no longer good
}

// NewStream returns the stream of a store's timelines.
func NewStream(s *Store) *Stream {
	return &Stream{store: s, api: dynamodbstreams.NewFromConfig(s.o.AWS, func(o *dynamodbstreams.Options) {
		o.HTTPClient = s.http
		o.Retryer = s.retryer
	})}
}

// name returns the stream's: that of the table changes if the stream is switched off
// and on again.
func (s *Stream) name(ctx context.Context) (string, error) {
	s.mu.Lock()
	arn := s.arn
	s.mu.Unlock()
	if arn != "" {
		return arn, nil
	}
	table := s.store.name(timelinesTable)
	out, err := call(ctx, s.store, "DescribeTable", s.store.db.DescribeTable, &dynamodb.DescribeTableInput{TableName: &table})
	if err != nil {
		return "", err
	}
	if arn = aws.ToString(out.Table.LatestStreamArn); arn == "" {
		return "", fmt.Errorf("table %s has no stream: run `timberline migrate up --store dynamodb`", table)
	}
	s.rename(arn)
	return arn, nil
}

func (s *Stream) rename(arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arn = arn
}

// Shards implements relay.Stream.
func (s *Stream) Shards(ctx context.Context) (all []relay.Shard, err error) {
	arn, err := s.name(ctx)
	if err != nil {
		return nil, fmt.Errorf("name of the stream: %w", err)
	}
	for in := (&dynamodbstreams.DescribeStreamInput{StreamArn: &arn}); ; {
		out, err := call(ctx, s.store, "DescribeStream", s.api.DescribeStream, in)
		if err != nil {
			s.rename("") // perhaps it has another one by now
			return nil, fmt.Errorf("describe stream %s: %w", arn, err)
		}
		if out.StreamDescription.StreamStatus == types.StreamStatusDisabled {
			s.rename("")
		}
		for _, shard := range out.StreamDescription.Shards {
			all = append(all, relay.Shard{Name: aws.ToString(shard.ShardId), Parent: aws.ToString(shard.ParentShardId)})
		}
		if in.ExclusiveStartShardId = out.StreamDescription.LastEvaluatedShardId; in.ExclusiveStartShardId == nil {
			return all, nil
		}
	}
}

// Seek implements relay.Stream.
func (s *Stream) Seek(ctx context.Context, shard, place string) (next string, err error) {
	arn, err := s.name(ctx)
	if err != nil {
		return "", fmt.Errorf("name of the stream: %w", err)
	}
	in := &dynamodbstreams.GetShardIteratorInput{StreamArn: &arn, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	if place != "" {
		in.ShardIteratorType, in.SequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &place
	}
	out, err := call(ctx, s.store, "GetShardIterator", s.api.GetShardIterator, in)
	if err != nil {
		return "", fmt.Errorf("seek in shard %s: %w", shard, meaning(err))
	}
	return aws.ToString(out.ShardIterator), nil
}

// Read implements relay.Stream.
func (s *Stream) Read(ctx context.Context, next string) (relay.Page, error) {
	out, err := call(ctx, s.store, "GetRecords", s.api.GetRecords, &dynamodbstreams.GetRecordsInput{ShardIterator: &next})
	if err != nil {
		return relay.Page{}, fmt.Errorf("read stream: %w", meaning(err))
	}
	page := relay.Page{Next: aws.ToString(out.NextShardIterator)}
	for _, r := range out.Records {
		page.Place = aws.ToString(r.Dynamodb.SequenceNumber)
		if _, quiet := r.Dynamodb.NewImage[quietAttribute]; quiet || r.EventName == types.OperationTypeRemove {
			continue
		}
		page.Changes = append(page.Changes, changeOf(r.Dynamodb))
	}
	return page, nil
}

// changeOf returns what a record tells. What is not as this engine writes it lacks its
// bytes, and so does not decode.
func changeOf(r *types.StreamRecord) (c relay.Change) {
	c.At = aws.ToTime(r.ApproximateCreationDateTime)
	if user, ok := r.NewImage[timelinesTable.partition.name].(*types.AttributeValueMemberS); ok {
		c.Timeline, _ = timelineOf(user.Value)
	}
	if last, ok := r.NewImage[timelinesTable.sort.name].(*types.AttributeValueMemberN); ok {
		n, _ := strconv.ParseUint(last.Value, 10, 64)
		c.Last = events.Seq(n)
	}
	if item, ok := r.NewImage[timelinesTable.value].(*types.AttributeValueMemberB); ok {
		c.Data = item.Value
	}
	return c
}

// meaning names the errors that a relay acts on.
func meaning(err error) error {
	expired, trimmed, gone := (*types.ExpiredIteratorException)(nil), (*types.TrimmedDataAccessException)(nil), (*types.ResourceNotFoundException)(nil)
	switch {
	case errors.As(err, &expired):
		return fmt.Errorf("%w: %w", relay.ErrExpired, err)
	case errors.As(err, &trimmed), errors.As(err, &gone):
		return fmt.Errorf("%w: %w", relay.ErrTrimmed, err)
	}
	return err
}
