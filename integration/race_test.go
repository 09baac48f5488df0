//go:build race

package integration_test

// raceDetector makes a hundred thousand messages slow.
const raceDetector = true
