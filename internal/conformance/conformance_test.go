package conformance

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"
)

var (
	record = flag.Bool("record", false, "record the transcripts of the broker of AMQP_URL in testdata")
	only   = flag.String("case", "", "record only the cases whose names match")
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecord(t *testing.T) {
	url := os.Getenv("AMQP_URL")
	if !*record {
		t.Skip("records what RabbitMQ says, with -record")
	}
	if url == "" {
		t.Fatal("-record needs AMQP_URL, the URL of a RabbitMQ")
	}
	pick := regexp.MustCompile(*only)
	version := versionOf(t, url)
	series := Series(version)
	baseline, err := loadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	have, err := load(series)
	if err != nil {
		t.Fatal(err)
	}

	var picked []Case
	for _, c := range Cases {
		if pick.MatchString(c.Name) && c.settled(series) {
			picked = append(picked, c)
		}
	}
	played, stop := playAll(t.Context(), url, picked)
	defer stop()
	note := func(c Case, seen string) {
		if before, ok := have[c.Name]; ok && before != seen {
			t.Logf("%s has changed:\n%s", c.Name, compare(before, seen))
		}
		have[c.Name] = seen
	}
	for i, c := range picked {
		note(c, <-played[i])
	}
	if ctl := strings.Fields(os.Getenv("RABBITMQCTL")); len(ctl) > 0 {
		hand := Rabbitmqctl(func(ctx context.Context, args ...string) error {
			out, err := exec.CommandContext(ctx, ctl[0], append(ctl[1:], args...)...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		for _, c := range HandCases {
			if pick.MatchString(c.Name) {
				note(c, play(t.Context(), url, c, hand, dialTCP))
			}
		}
	}

	comment := fmt.Sprintf("Recorded from RabbitMQ %s by \"go test ./internal/conformance -record\". Do not edit.\n", version)
	if series != base {
		comment += "The cases that differ from " + base + ".\n"
		for name, text := range have {
			if baseline[name] == text {
				delete(have, name)
			}
		}
	}
	if err := os.WriteFile("testdata/"+series+".txt", have.format(comment), 0o644); err != nil {
		t.Fatal(err)
	}
}

func versionOf(t *testing.T, url string) string {
	t.Helper()
	conn, err := amqp.Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	version, _ := conn.Properties["version"].(string)
	return version
}

func TestEveryCaseIsRecordedOnceAndNothingElseIs(t *testing.T) {
	t.Parallel()
	if *record {
		t.Skip("what is compiled in is the recording before this one")
	}
	names := map[string]bool{}
	for _, c := range slices.Concat(Cases, HandCases) {
		if names[c.Name] {
			t.Errorf("two cases are called %s", c.Name)
		}
		names[c.Name] = true
	}
	g, err := loadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	for name := range names {
		switch text, ok := g[name]; {
		case !ok:
			t.Errorf("%s is not recorded", name)
		case strings.Contains(text, "panic: "), strings.Contains(text, patience.String()), strings.Contains(text, "out of time"):
			// Of an older series, that may be all that there is to say.
			t.Errorf("%s did not come to its end when it was recorded:\n%s", name, text)
		}
	}
	entries, err := recorded.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := recorded.ReadFile("testdata/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		g, err := parseGolden(content)
		if err != nil {
			t.Errorf("%s: %v", e.Name(), err)
		}
		for name := range g {
			if !names[name] {
				t.Errorf("%s has %s, which is no case", e.Name(), name)
			}
		}
	}
}

func TestACaseIsPlayedSinceItsOutcomeIsNoLuck(t *testing.T) {
	t.Parallel()
	for series, want := range map[string]bool{"3.10": false, "4.0": false, "4.2": false, "4.3": true, "4.10": true, "5.0": true} {
		if got := (Case{Name: "expires/quorum"}).settled(series); got != want {
			t.Errorf("in %s it is settled: %v", series, got)
		}
	}
	if !(Case{Name: "ack/one"}).settled("3.10") {
		t.Error("a case that has no first series is not played")
	}
	for name := range since {
		if !slices.ContainsFunc(Cases, func(c Case) bool { return c.Name == name }) {
			t.Errorf("there is no case %s", name)
		}
	}
}

func TestCompareShowsBothTranscriptsAsOne(t *testing.T) {
	t.Parallel()
	got := compare("a\nb\nc\nd\n", "a\nx\nc\nd\ne\n")
	want := "  a\n- b\n+ x\n  c\n  d\n+ e\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestTranscriptsShowGeneratedNamesInOrderAndOwnNamesAsWritten(t *testing.T) {
	t.Parallel()
	n := normalizer{suffix: "-0123abcd", vhost: "test", seen: map[string]string{}}
	one, other := "amq.gen-AAAAAAAAAAAAAAAAAAAAAA", "amq.gen-BBBBBBBBBBBBBBBBBBBBBB"
	got := n.line(fmt.Sprintf("queue 'q-0123abcd' in vhost 'test': %s %s %s", one, other, one))
	want := "queue 'q' in vhost '/': amq.gen-(1) amq.gen-(2) amq.gen-(1)"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestGoldenFilesAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	want := golden{Cases[0].Name: "a\n-- b\nc --\n", Cases[2].Name: ""}
	got, err := parseGolden(want.format("a comment\n"))
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := parseGolden([]byte("-- a --\n-- a --\n")); err == nil {
		t.Error("a case that is recorded twice is taken")
	}
}
