package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"timberline/events"
)

// A table is the definition of one.
type table struct {
	suffix    string // of its name, behind Options.Prefix
	partition attribute
	sort      attribute
	value     string // the attribute that holds what is stored, but for leases
	usual     int    // bytes of a value: so many of them are asked for first
	stream    bool   // of new images
	source    bool   // not to be had again from other tables: protected
}

// An attribute is one of a table's key.
type attribute struct {
	name string
	kind types.ScalarAttributeType
}

func text(name string) attribute   { return attribute{name, types.ScalarAttributeTypeS} }
func number(name string) attribute { return attribute{name, types.ScalarAttributeTypeN} }

// The tables.
var (
	logTable         = &table{suffix: "log", partition: text("journal"), sort: number("offset"), value: "record", usual: 16 << 10, source: true}
	journalsTable    = &table{suffix: "journals", partition: text("kind"), sort: number("number"), value: "row", usual: 64, source: true}
	checkpointsTable = &table{suffix: "checkpoints", partition: number("shard"), sort: number("n"), value: "checkpoint", usual: 1 << 10, source: true}
	timelinesTable   = &table{suffix: "timelines", partition: text("user"), sort: number("last"), value: "item", usual: 1 << 10, stream: true}
	leasesTable      = &table{suffix: "leases", partition: text("kind"), sort: text("name")}
	metaTable        = &table{suffix: "meta", partition: text("what"), sort: number("number"), value: "value", usual: 64, source: true}
	rowsTable        = &table{suffix: "rows", partition: text("space"), sort: text("key"), value: "row", usual: 256, source: true}

	firstTables = []*table{logTable, journalsTable, checkpointsTable, timelinesTable, leasesTable, metaTable} // step 1
	laterTables = []*table{rowsTable}                                                                         // step 3
	tables      = slices.Concat(firstTables, laterTables)
)

// TableStatus says how a table is.
type TableStatus struct {
	Name    string
	Missing bool
	Active  bool     // it takes reads and writes
	Differs []string // from its definition, each with what to do about it
}

// DescribeTables tells how the tables of a store are, in a fixed order.
func DescribeTables(ctx context.Context, o Options) ([]TableStatus, error) {
	s, err := newStore(o)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.describeTables(ctx, tables)
}

func (s *Store) describeTables(ctx context.Context, tables []*table) (all []TableStatus, err error) {
	all = make([]TableStatus, len(tables))
	for i, t := range tables {
		if all[i], err = s.describeTable(ctx, t); err != nil {
			return nil, err
		}
		if all[i].Missing || !t.source {
			continue
		}
		on, err := s.recovery(ctx, all[i].Name)
		if err != nil {
			return nil, fmt.Errorf("describe the backups of table %s: %w", all[i].Name, err)
		}
		if !on {
			all[i].Differs = append(all[i].Differs, "it has no point-in-time recovery: switch it on")
		}
	}
	return all, nil
}

func (s *Store) describeTable(ctx context.Context, t *table) (TableStatus, error) {
	st := TableStatus{Name: s.name(t)}
	out, err := call(ctx, s, "DescribeTable", s.db.DescribeTable, &dynamodb.DescribeTableInput{TableName: aws.String(st.Name)})
	if missing := (*types.ResourceNotFoundException)(nil); errors.As(err, &missing) {
		st.Missing = true
		return st, nil
	}
	if err != nil {
		return st, fmt.Errorf("describe table %s: %w", st.Name, err)
	}
	st.Active = out.Table.TableStatus == types.TableStatusActive || out.Table.TableStatus == types.TableStatusUpdating
	st.Differs = t.differences(out.Table)
	return st, nil
}

// differences says in what a table is not as it is defined.
func (t *table) differences(d *types.TableDescription) (all []string) {
	if !t.hasKeyOf(d) {
		all = append(all, anotherKey)
	}
	if s := d.StreamSpecification; t.stream && (s == nil || !aws.ToBool(s.StreamEnabled) ||
		s.StreamViewType != types.StreamViewTypeNewImage && s.StreamViewType != types.StreamViewTypeNewAndOldImages) {
		all = append(all, "it has no stream of new images: without one nothing is pushed; switch it on")
	}
	if t.source && !aws.ToBool(d.DeletionProtectionEnabled) {
		all = append(all, "it is not protected from deletion: switch that on")
	}
	return all
}

const anotherKey = "its key is another: it is no table of timberline; choose another prefix"

// hasKeyOf reports whether a table has the key that is defined.
func (t *table) hasKeyOf(d *types.TableDescription) bool {
	return slices.Equal(sortedKeys(d.KeySchema), sortedKeys(t.keys())) && slices.Equal(sortedTypes(d.AttributeDefinitions), sortedTypes(t.attributes()))
}

func sortedKeys(ks []types.KeySchemaElement) (all []string) {
	for _, k := range ks {
		all = append(all, string(k.KeyType)+" "+aws.ToString(k.AttributeName))
	}
	slices.Sort(all)
	return all
}

func sortedTypes(as []types.AttributeDefinition) (all []string) {
	for _, a := range as {
		all = append(all, string(a.AttributeType)+" "+aws.ToString(a.AttributeName))
	}
	slices.Sort(all)
	return all
}

func (t *table) keys() []types.KeySchemaElement {
	return []types.KeySchemaElement{
		{AttributeName: &t.partition.name, KeyType: types.KeyTypeHash},
		{AttributeName: &t.sort.name, KeyType: types.KeyTypeRange},
	}
}

func (t *table) attributes() []types.AttributeDefinition {
	return []types.AttributeDefinition{
		{AttributeName: &t.partition.name, AttributeType: t.partition.kind},
		{AttributeName: &t.sort.name, AttributeType: t.sort.kind},
	}
}

// createWait bounds how long tables may take until they can be used.
const createWait = 5 * time.Minute

// CreateTables creates the tables that are missing, with on-demand capacity, and waits
// until all can be used; those that there are it brings to their definition. It may be
// called again, and from several places at a time.
func CreateTables(ctx context.Context, o Options) error {
	s, err := newStore(o)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.createTables(ctx, tables)
}

func (s *Store) createTables(ctx context.Context, tables []*table) error {
	ctx, cancel := context.WithTimeout(ctx, createWait)
	defer cancel()
	for _, t := range tables {
		if err := s.createTable(ctx, t); err != nil {
			return fmt.Errorf("create table %s: %w", s.name(t), err)
		}
	}
	for _, t := range tables {
		if err := s.completeTable(ctx, t); err != nil {
			return fmt.Errorf("create table %s: %w", s.name(t), err)
		}
	}
	return nil
}

func (s *Store) createTable(ctx context.Context, t *table) error {
	in := &dynamodb.CreateTableInput{
		TableName:                 aws.String(s.name(t)),
		KeySchema:                 t.keys(),
		AttributeDefinitions:      t.attributes(),
		BillingMode:               types.BillingModePayPerRequest,
		DeletionProtectionEnabled: aws.Bool(t.source),
	}
	if t.stream {
		in.StreamSpecification = streamOfNewImages
	}
	_, err := call(ctx, s, "CreateTable", s.db.CreateTable, in)
	if exists := (*types.ResourceInUseException)(nil); errors.As(err, &exists) {
		return nil // somebody was faster, now or long ago
	}
	return err
}

var streamOfNewImages = &types.StreamSpecification{StreamEnabled: aws.Bool(true), StreamViewType: types.StreamViewTypeNewImage}

// completeTable waits until a table can be used and is as it is defined.
func (s *Store) completeTable(ctx context.Context, t *table) error {
	var last error
	for try := 1; ; try++ {
		done, err := s.complete(ctx, t)
		if done || events.Final(err) {
			return err
		}
		last = err
		if err := s.sleep(ctx, try); err != nil {
			return errors.Join(fmt.Errorf("not ready after %v", createWait), last, err)
		}
	}
}

// complete takes the next step of completeTable; done says that there is none.
func (s *Store) complete(ctx context.Context, t *table) (done bool, err error) {
	name := aws.String(s.name(t))
	out, err := call(ctx, s, "DescribeTable", s.db.DescribeTable, &dynamodb.DescribeTableInput{TableName: name})
	missing := (*types.ResourceNotFoundException)(nil)
	switch {
	case errors.As(err, &missing): // not known everywhere yet, or it was on its way out when it was to be created
		return false, s.createTable(ctx, t)
	case err != nil:
		return false, err
	case out.Table.TableStatus != types.TableStatusActive:
		return false, nil
	}
	if !t.hasKeyOf(out.Table) {
		return false, fmt.Errorf("%w: %s", events.ErrFatal, anotherKey) // somebody else's: nothing of it is changed
	}
	if t.source && !aws.ToBool(out.Table.DeletionProtectionEnabled) {
		_, err := call(ctx, s, "UpdateTable", s.db.UpdateTable, &dynamodb.UpdateTableInput{TableName: name, DeletionProtectionEnabled: aws.Bool(true)})
		return false, unlessInUse(err)
	}
	if t.stream && (out.Table.StreamSpecification == nil || !aws.ToBool(out.Table.StreamSpecification.StreamEnabled)) {
		_, err := call(ctx, s, "UpdateTable", s.db.UpdateTable, &dynamodb.UpdateTableInput{TableName: name, StreamSpecification: streamOfNewImages})
		return false, unlessInUse(err)
	}
	if differs := t.differences(out.Table); len(differs) > 0 {
		return false, fmt.Errorf("%w: %s", events.ErrFatal, strings.Join(differs, "; "))
	}
	if t.source {
		err = s.keepBackups(ctx, name)
	}
	return err == nil, err
}

// keepBackups switches point-in-time recovery on.
func (s *Store) keepBackups(ctx context.Context, name *string) error {
	_, err := call(ctx, s, "UpdateContinuousBackups", s.db.UpdateContinuousBackups, &dynamodb.UpdateContinuousBackupsInput{
		TableName:                        name,
		PointInTimeRecoverySpecification: &types.PointInTimeRecoverySpecification{PointInTimeRecoveryEnabled: aws.Bool(true)},
	})
	if code(err) == unknownOperation {
		s.log.Warn("this DynamoDB has no point-in-time recovery", "table", *name)
		return nil
	}
	return err
}

// unknownOperation is how DynamoDB Local answers to what it does not have.
const unknownOperation = "UnknownOperationException"

// recovery says whether point-in-time recovery is on.
func (s *Store) recovery(ctx context.Context, name string) (bool, error) {
	out, err := call(ctx, s, "DescribeContinuousBackups", s.db.DescribeContinuousBackups, &dynamodb.DescribeContinuousBackupsInput{TableName: &name})
	if code(err) == unknownOperation {
		return true, nil
	}
	if err != nil || out.ContinuousBackupsDescription == nil {
		return false, err
	}
	d := out.ContinuousBackupsDescription.PointInTimeRecoveryDescription
	return d != nil && d.PointInTimeRecoveryStatus == types.PointInTimeRecoveryStatusEnabled, nil
}

// unlessInUse takes a table that somebody else changes right now for no error.
func unlessInUse(err error) error {
	if changing := (*types.ResourceInUseException)(nil); errors.As(err, &changing) {
		return nil
	}
	return err
}

// check refuses a store whose tables are not all there.
func (s *Store) check(ctx context.Context) error {
	for _, t := range tables {
		st, err := s.describeTable(ctx, t)
		switch {
		case err != nil:
			return err
		case st.Missing:
			return fmt.Errorf("there is no table %s in region %s: run `timberline migrate up --store dynamodb` first, or correct prefix and region", st.Name, s.o.AWS.Region)
		case !st.Active:
			return fmt.Errorf("table %s cannot be used yet: run `timberline migrate up --store dynamodb`, which waits for it", st.Name)
		case len(st.Differs) > 0:
			s.log.Warn("a table is not as it should be", "table", st.Name, "differs", st.Differs)
		}
	}
	return nil
}
