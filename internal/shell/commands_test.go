package shell

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCommandsOfRemedies holds the programs of IsCommand to the packages that write remedies: what they
// say is to be run somewhere has to be told as a command.
func TestCommandsOfRemedies(t *testing.T) {
	found := map[string]bool{}
	for _, pattern := range []string{"../diagnose/*.go", "../doctor/*.go", "../mtu/*.go", "../target/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no files %s: %v", pattern, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || !runs(call.Fun) {
					return true
				}
				text := literal(call.Args[len(call.Args)-1])
				program, _, _ := strings.Cut(text, " ")
				if program != "" && !strings.ContainsAny(program, "%(") {
					found[program] = true
					if !IsCommand(text) {
						t.Errorf("%v: %q is run, but is no command to IsCommand", fset.Position(call.Pos()), text)
					}
				}
				return true
			})
		}
	}
	for _, known := range []string{"nft", "ip", "sysctl"} {
		if !found[known] {
			t.Errorf("%s was not found in the sources", known)
		}
	}
}

// runs reports whether a function makes its last argument a command for a namespace.
func runs(fun ast.Expr) bool {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name == "enter"
	case *ast.SelectorExpr:
		return f.Sel.Name == "command" || f.Sel.Name == "commandIn"
	}
	return false
}

// literal is how a text begins, as far as the source has it.
func literal(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(x.Value)
		return text
	case *ast.BinaryExpr:
		return literal(x.X)
	case *ast.CallExpr: // fmt.Sprintf
		if len(x.Args) > 0 {
			return literal(x.Args[0])
		}
	}
	return ""
}
