// Runs at the start of every Node that `tintype run` starts (NODE_OPTIONS --require), whatever its version.
//
// TLS to one of fal's names goes to the local server's Unix socket and trusts the local authority alone: fetch, https,
// WebSocket and the packages built on them all come through tls.connect, and fal itself cannot complete a connection
// that took another way. Anything else that wants to reach those names is refused.
"use strict";

const settings = process.env._TINTYPE_FAL_PROXY ? JSON.parse(process.env._TINTYPE_FAL_PROXY) : undefined;

if (settings) {
  const fs = require("node:fs");
  const net = require("node:net");
  const tls = require("node:tls");
  const { syncBuiltinESMExports } = require("node:module");
  const authority = fs.readFileSync(settings.authority);
  const connectTls = tls.connect;
  const connectSocket = net.Socket.prototype.connect;

  const isFals = (name) => {
    const plain = String(name ?? "").toLowerCase().replace(/\.$/, "");
    return settings.domains.some((domain) => plain === domain || plain.endsWith("." + domain));
  };

  // connect(options), connect(port, host, options) and connect(path) all occur, with or without a callback.
  const optionsOf = (args) => {
    const given = Array.isArray(args[0]) ? args[0] : args;
    const options = {};
    for (const argument of given) {
      if (argument !== null && typeof argument === "object") Object.assign(options, argument);
      else if (typeof argument === "number" || /^\d+$/.test(argument)) options.port = Number(argument);
      else if (typeof argument === "string") options.host = argument;
    }
    return options;
  };

  tls.connect = function connect(...args) {
    const options = optionsOf(args);
    const name = [options.servername, options.host].find(isFals);
    if (name === undefined) return connectTls.apply(this, args);
    const redirected = { ...options, servername: name, ca: authority, rejectUnauthorized: true };
    for (const own of ["secureContext", "checkServerIdentity", "session", "host", "port", "lookup"]) delete redirected[own];
    if (!options.socket) redirected.path = settings.fal;
    return connectTls.call(this, redirected, args.find((argument) => typeof argument === "function"));
  };

  net.Socket.prototype.connect = function connect(...args) {
    const { host, port } = optionsOf(args);
    if (!isFals(host)) return connectSocket.apply(this, args);
    const refused = new Error(`tintype refused ${host}:${port}: only https to fal's names is answered here`);
    process.nextTick(() => this.destroy(Object.assign(refused, { code: "ECONNREFUSED" })));
    return this;
  };

  syncBuiltinESMExports();
}
