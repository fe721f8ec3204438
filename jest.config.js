"use strict"

module.exports = {
  testEnvironment: "<rootDir>/__test__/lib/environment.js",
  globalSetup: "<rootDir>/__test__/lib/setup.js",
  testMatch: ["<rootDir>/__test__/**/*.test.js"],
  // The tests are plain CommonJS, and the package is tested as it is shipped.
  transform: {},
  // Rust's folder holds no JavaScript, and a great many files.
  modulePathIgnorePatterns: ["<rootDir>/target", "<rootDir>/npm"],
  // Most of what a test that deploys does is waiting for other processes.
  maxWorkers: 4,
}
