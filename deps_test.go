package mqkit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"

	"go.uber.org/goleak"

	// Imported so that a change in them outdates a cached result of the tests
	// here, which read them through the go command.
	_ "github.com/mqkit/mqkit/consumer"
	_ "github.com/mqkit/mqkit/producer"
	_ "github.com/mqkit/mqkit/reconnect"
	_ "github.com/mqkit/mqkit/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const module = "github.com/mqkit/mqkit"

// libraries are the packages that services import, each with the packages of
// this module that it may reach.
var libraries = map[string][]string{
	"topology":  {"internal/sendable"},
	"reconnect": {"topology", "internal/relay", "internal/sendable"},
	"producer":  {"reconnect", "topology", "internal/relay", "internal/sendable"},
	"consumer":  {"reconnect", "topology", "internal/relay", "internal/sendable"},
}

// allowed are the modules that come with a library. Each is argued for in
// CONTRIBUTING.md.
var allowed = []string{
	"github.com/cenkalti/backoff/v4",
	"github.com/goccy/go-yaml",
	"github.com/google/uuid",
	"github.com/rabbitmq/amqp091-go",
}

// listed is what is read of a package in the output of "go list -json".
type listed struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Path string }
}

// depsOf lists a library and everything that it pulls in on one platform.
func depsOf(t *testing.T, library, goos string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Module", "./"+library)
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var all []listed
	for packages := json.NewDecoder(&stdout); ; {
		var p listed
		err := packages.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("output of go list: %v", err)
		}
		all = append(all, p)
	}
}

func TestLibrariesPullInOnlyWhatIsArguedFor(t *testing.T) {
	t.Parallel()
	for _, library := range slices.Sorted(maps.Keys(libraries)) {
		for _, goos := range []string{"linux", "darwin", "windows"} {
			t.Run(fmt.Sprintf("%s/%s", library, goos), func(t *testing.T) {
				t.Parallel()
				reachable := []string{module + "/" + library}
				for _, name := range libraries[library] {
					reachable = append(reachable, module+"/"+name)
				}
				deps := depsOf(t, library, goos)
				if len(deps) < 2 {
					t.Fatalf("go list named %d packages: this test sees nothing", len(deps))
				}
				for _, p := range deps {
					switch {
					case p.Standard:
						if p.ImportPath == "testing" {
							t.Errorf("%s pulls testing into programs", library)
						}
					case p.Module == nil:
						t.Errorf("%s pulls in %s, which is of no module", library, p.ImportPath)
					case p.Module.Path == module:
						if !slices.Contains(reachable, p.ImportPath) {
							t.Errorf("%s must not reach %s: imports point one way", library, p.ImportPath)
						}
					case !slices.Contains(allowed, p.Module.Path):
						t.Errorf("%s pulls in %s of module %s", library, p.ImportPath, p.Module.Path)
					}
				}
			})
		}
	}
}

// What no library uses any more has to leave the list.
func TestEveryAllowedModuleIsUsed(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for library := range libraries {
		for _, p := range depsOf(t, library, "linux") {
			if p.Module != nil {
				used[p.Module.Path] = true
			}
		}
	}
	for _, path := range allowed {
		if !used[path] {
			t.Errorf("no library uses %s", path)
		}
	}
}
