// The JavaScript kernel of a context, behind JSON lines on descriptors 3 (in) and 4 (out). Code is evaluated by V8's own REPL mode, through
// the inspector: top-level names persist and may be declared again, and top-level await works. Before each answer the kernel writes the
// request's marker to both outputs, so that the agent knows what was printed before it.
'use strict';
const fs = require('fs');
const inspector = require('inspector');
const net = require('net');
const path = require('path');
const tls = require('tls');
const util = require('util');
const vm = require('vm');
const { createRequire } = require('module');
const { pathToFileURL } = require('url');

const MAX_RESULT = 384 * 1024;
const MAX_TEXT = 48 * 1024;

const pause = new Int32Array(new SharedArrayBuffer(4));
const writeAll = (fd, data) => {
  const bytes = Buffer.from(data);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += fs.writeSync(fd, bytes, done);
    } catch (e) {
      if (e.code !== 'EAGAIN') throw e;
      Atomics.wait(pause, 0, 0, 1);
    }
  }
};

// An interrupt may break off code anywhere, also inside Node's own stream code, which then believes for ever that a write is under way and
// keeps all that follows in its buffer. What the user's code prints goes past the streams' state.
for (const [stream, fd] of [[process.stdout, 1], [process.stderr, 2]]) {
  stream.write = (chunk, encoding, callback) => {
    if (typeof encoding === 'function') [encoding, callback] = [undefined, encoding];
    writeAll(fd, typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk);
    if (typeof callback === 'function') process.nextTick(callback);
    return true;
  };
}

// Node reads NODE_EXTRA_CA_CERTS once, when it starts, and this one may have started before the machine was told of an authority, or of another: it is added to what a connection trusts by default.
const AUTHORITY = '/usr/local/share/ca-certificates/sandbox-egress.crt';
const createSecureContext = tls.createSecureContext;
tls.createSecureContext = (options) => {
  const secure = createSecureContext(options);
  if (!options?.ca) {
    try {
      secure.context.addCACert(fs.readFileSync(AUTHORITY));
    } catch {
      // There is none.
    }
  }
  return secure;
};

let marker = '';
const send = (message) => {
  if (marker) {
    writeAll(1, marker);
    writeAll(2, marker);
  }
  writeAll(4, JSON.stringify(message) + '\n');
};
const clip = (text) => (text.length <= MAX_TEXT ? text : '…' + text.slice(-MAX_TEXT));

let count = 0;
const show = (data, main) => {
  const parts = {};
  let size = 0;
  for (const [mime, value] of Object.entries(data)) {
    let bytes = Buffer.isBuffer(value) || value instanceof Uint8Array ? Buffer.from(value) : Buffer.from(typeof value === 'string' ? value : JSON.stringify(value) ?? '');
    if (size + mime.length + bytes.length > MAX_RESULT) {
      if (mime !== 'text/plain') {
        writeAll(2, `[sandbox] left out of a result, which takes ${MAX_RESULT} bytes: ${mime} (${bytes.length} bytes)\n`);
        continue;
      }
      bytes = bytes.subarray(0, MAX_RESULT - size - mime.length);
    }
    size += mime.length + bytes.length;
    parts[mime] = bytes.toString('base64');
  }
  if (Object.keys(parts).length > 0) send({ type: 'result', main, count, data: parts });
};

// A value is shown as text; `display` also takes a bundle of MIME types, or a value and its type.
globalThis.display = (value, mime) => {
  if (mime) show({ [mime]: value }, false);
  else if (value !== null && typeof value === 'object' && Object.keys(value).length > 0 && Object.keys(value).every((k) => /^[\w.+-]+\/[\w.+-]+$/.test(k))) show(value, false);
  else show(forms(value), false);
};
// Plain objects and arrays are shown as JSON too: there the reader needs no parser for Node's notation.
const forms = (value) => {
  const data = { 'text/plain': util.inspect(value) };
  const prototype = value !== null && typeof value === 'object' ? Object.getPrototypeOf(value) : undefined;
  if (Array.isArray(value) || (prototype !== undefined && (prototype === null || prototype === Object.prototype))) {
    try {
      const json = JSON.stringify(value);
      if (json !== undefined && data['text/plain'].length + json.length + 64 < MAX_RESULT) data['application/json'] = json;
    } catch {
      // It goes round in circles, or holds what JSON has no form for.
    }
  }
  return data;
};
const rebase = () => {
  globalThis.require = createRequire(path.join(process.cwd(), 'context.js'));
};
globalThis.module = { exports: {} };
globalThis.exports = globalThis.module.exports;
rebase();

// REPL mode has no loader for import(): the call goes through this, from the directory of now.
globalThis.__import = (name) =>
  import(/^\.{0,2}\//.test(name) ? pathToFileURL(path.resolve(name)).href : name.startsWith('node:') || require('module').builtinModules.includes(name) ? name : pathToFileURL(globalThis.require.resolve(name)).href);
for (const name of ['display', 'require', 'module', 'exports', '__import']) {
  Object.defineProperty(globalThis, name, { enumerable: false, configurable: true, writable: true, value: globalThis[name] });
}

let session;
const connect = () => {
  if (session) {
    try {
      session.disconnect();
    } catch {
      // It is of no use any more in any case.
    }
  }
  session = new inspector.Session();
  session.connect();
};
connect();

const post = (method, parameters) => new Promise((resolve, reject) => session.post(method, parameters, (error, answer) => (error ? reject(error) : resolve(answer))));

// The inspector hands out descriptions; this takes the value itself across.
const valueOf = async (remote) => {
  if (remote.objectId === undefined) {
    if (remote.type === 'undefined') return undefined;
    if (remote.subtype === 'null') return null;
    if (remote.unserializableValue !== undefined) return remote.type === 'bigint' ? BigInt(remote.unserializableValue.slice(0, -1)) : Number(remote.unserializableValue);
    return remote.value;
  }
  let value;
  globalThis.__sbx_take = (it) => {
    value = it;
  };
  try {
    await post('Runtime.callFunctionOn', { objectId: remote.objectId, arguments: [{ objectId: remote.objectId }], functionDeclaration: 'function (it) { __sbx_take(it); }' });
  } finally {
    delete globalThis.__sbx_take;
  }
  return value;
};

class Interrupted extends Error {
  constructor() {
    super('Execution was interrupted');
    this.name = 'InterruptError';
    this.stack = 'InterruptError: Execution was interrupted';
  }
}

// Synchronous code is broken off by vm's SIGINT watchdog, which stands under the inspector's call; what waits for a promise is left behind.
const evaluate = (source) =>
  new Promise((resolve, reject) => {
    const onInterrupt = () => reject(new Interrupted());
    process.on('SIGINT', onInterrupt);
    const settle = (how) => (value) => {
      process.removeListener('SIGINT', onInterrupt);
      how(value);
    };
    [resolve, reject] = [settle(resolve), settle(reject)];
    globalThis.__sbx_go = () => {
      delete globalThis.__sbx_go;
      session.post(
        'Runtime.evaluate',
        { expression: source, replMode: true, awaitPromise: true, userGesture: false },
        (error, answer) => (error ? reject(error) : resolve(answer)),
      );
    };
    try {
      vm.runInThisContext('__sbx_go()', { breakOnSigint: true });
    } catch (e) {
      connect();
      reject(e && e.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED' ? new Interrupted() : e);
    }
  });

const report = (error) => {
  const known = util.types.isNativeError(error) || (error !== null && typeof error === 'object' && 'message' in error);
  // The frames of the kernel say nothing about the user's code.
  const stack = known && error.stack ? String(error.stack).split('\n').filter((l) => !/node:inspector|node:internal|javascript_kernel\.js|node:vm/.test(l)).join('\n') : util.inspect(error);
  send({ type: 'error', name: known && error.name ? String(error.name) : 'Error', value: clip(known ? String(error.message) : util.inspect(error)), traceback: clip(stack) });
};

async function run(request) {
  count++;
  const saved = {};
  try {
    if (request.cwd) {
      process.chdir(request.cwd);
      rebase();
    }
    for (const [name, value] of Object.entries(request.env || {})) {
      saved[name] = process.env[name];
      process.env[name] = value;
    }
    const source = request.code.replace(/(?<![\w$.'"`])import\s*\(/g, '__import(');
    const answer = await evaluate(source);
    if (answer.exceptionDetails) {
      const thrown = answer.exceptionDetails.exception;
      report(thrown === undefined ? new Error(answer.exceptionDetails.text) : await valueOf(thrown));
      return 1;
    }
    if (answer.result.type !== 'undefined') {
      const value = await valueOf(answer.result);
      show(forms(value), true);
    }
    return 0;
  } catch (e) {
    report(e);
    return 1;
  } finally {
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

// V8's Math.random cannot be seeded again, and a clone would go on with its sibling's numbers: this one (xoshiro128**) takes its place.
function reseed(hex) {
  const state = new Uint32Array(4);
  const seed = Buffer.from(hex, 'hex');
  for (let i = 0; i < 4; i++) state[i] = seed.readUInt32LE(i * 4);
  const rotate = (x, k) => (x << k) | (x >>> (32 - k));
  const next = () => {
    const result = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0;
    const t = state[1] << 9;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= t;
    state[3] = rotate(state[3], 11);
    return result;
  };
  Math.random = function random() {
    return ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  };
}

// Between two pieces of code an interrupt is nobody's.
process.on('SIGINT', () => {});
process.on('uncaughtException', (e) => writeAll(2, ((e && e.stack) || String(e)) + '\n'));
process.on('unhandledRejection', (e) => writeAll(2, ((e && e.stack) || String(e)) + '\n'));

// Requests are read asynchronously, so that timers and sockets of earlier pieces of code go on between two pieces.
// Not by fs.createReadStream, whose reading thread would keep process.exit() waiting.
const input = new net.Socket({ fd: 3, readable: true, writable: false });
let pending = '';
let turn = Promise.resolve();
input.setEncoding('utf8');
input.on('data', (chunk) => {
  pending += chunk;
  for (let end; (end = pending.indexOf('\n')) >= 0; ) {
    const request = JSON.parse(pending.slice(0, end));
    pending = pending.slice(end + 1);
    turn = turn.then(async () => {
      // An interrupt of the piece before, still on its way through the event loop, must not meet this one.
      await new Promise(setImmediate);
      marker = '\0' + request.marker + '\0';
      let code = 0;
      if (request.seed) reseed(request.seed);
      else code = await run(request);
      send({ type: 'done', code });
      marker = '';
    });
  }
});
input.on('end', () => process.exit(0));
send({ type: 'ready' });
