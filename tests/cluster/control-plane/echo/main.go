// echo answers every request with what it saw, as JSON: the backend of the cluster tests.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
)

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "3000"
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"pod": os.Getenv("POD_NAME"), "namespace": os.Getenv("NAMESPACE"),
			"method": r.Method, "path": r.RequestURI, "host": r.Host, "headers": r.Header})
	}
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":"+port, http.HandlerFunc(handler)))
	os.Exit(1)
}
