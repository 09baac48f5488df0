//go:build race

package consumer_test

// raceDetector makes a hundred thousand messages slow.
const raceDetector = true
