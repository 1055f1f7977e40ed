// The JavaScript kernel of a context: one vm context whose top-level names persist, behind JSON lines on descriptors 3 (in) and 4 (out).
'use strict';
const fs = require('fs');
const path = require('path');
const { Writable } = require('stream');
const util = require('util');
const vm = require('vm');
const { createRequire } = require('module');

process.on('SIGINT', () => {});

const send = (message) => fs.writeSync(4, JSON.stringify(message) + '\n');
const encode = (text) => Buffer.from(text).toString('base64');
const write = (fd, text) => {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += fs.writeSync(fd, bytes, done);
    } catch (e) {
      if (e.code !== 'EAGAIN') throw e;
    }
  }
};

let count = 0;
const sandbox = vm.createContext(globalThis.constructor === Object ? {} : Object.create(null));
for (const name of Object.getOwnPropertyNames(globalThis)) {
  if (!(name in sandbox)) Object.defineProperty(sandbox, name, Object.getOwnPropertyDescriptor(globalThis, name));
}
sandbox.globalThis = sandbox;
sandbox.global = sandbox;
sandbox.require = createRequire(path.join(process.cwd(), 'context.js'));
sandbox.module = { exports: {} };
sandbox.exports = sandbox.module.exports;
const sink = (fd) => new Writable({
  decodeStrings: false,
  write(text, _encoding, done) {
    write(fd, text);
    done();
  },
});
sandbox.console = new console.Console({ stdout: sink(1), stderr: sink(2) });
sandbox.display = (value, mime) => send({
  type: 'result', main: false, count, data: { [mime || 'text/plain']: encode(mime ? String(value) : util.inspect(value)) },
});

// Top-level `const`, `let` and `class` persist among scripts of one context by themselves. Only top-level await needs help: such code
// runs in an async function, with its declarations turned into assignments so that they outlive it.
function hoist(source) {
  return source
    .replace(/^(\s*)(?:const|let|var)\s+([A-Za-z_$][\w$]*)\s*=/gm, '$1$2 =')
    .replace(/^(\s*)(?:const|let|var)\s+(\{[^}]*\}|\[[^\]]*\])\s*=([^;]*);?$/gm, '$1($2 =$3);')
    .replace(/^(\s*)(async\s+)?function\s+([A-Za-z_$][\w$]*)/gm, '$1$3 = $2function $3')
    .replace(/^(\s*)class\s+([A-Za-z_$][\w$]*)/gm, '$1$2 = class $2');
}

function compile(source) {
  try {
    return { script: new vm.Script(source, { filename: 'input.js' }), asynchronous: false };
  } catch (e) {
    if (!(e instanceof SyntaxError) || !/\bawait\b/.test(source)) throw e;
    // The value of the last expression is the result: the last line, or what stands behind its last semicolon.
    const body = hoist(source).trimEnd().replace(/;$/, '');
    const line = body.lastIndexOf('\n') + 1;
    for (const at of [line, body.lastIndexOf(';') + 1, -1]) {
      const text = at < 0 ? body : body.slice(0, at) + 'return (' + body.slice(at) + '\n);';
      try {
        return { script: new vm.Script('(async () => {' + text + '\n})()', { filename: 'input.js' }), asynchronous: true };
      } catch (inner) {
        if (at < 0) throw inner;
      }
    }
  }
}

async function run(request) {
  count++;
  if (request.cwd) process.chdir(request.cwd);
  const saved = {};
  for (const [name, value] of Object.entries(request.env || {})) {
    saved[name] = process.env[name];
    process.env[name] = value;
  }
  try {
    const { script, asynchronous } = compile(request.code);
    let value = script.runInContext(sandbox, { breakOnSigint: true });
    if (asynchronous) {
      let interrupt;
      const interrupted = new Promise((_, reject) => {
        interrupt = () => reject(Object.assign(new Error('interrupted'), { name: 'InterruptError' }));
        process.once('SIGINT', interrupt);
      });
      try {
        value = await Promise.race([value, interrupted]);
      } finally {
        process.removeListener('SIGINT', interrupt);
      }
    }
    if (value !== undefined) send({ type: 'result', main: true, count, data: { 'text/plain': encode(util.inspect(value)) } });
    return 0;
  } catch (e) {
    const known = e !== null && typeof e === 'object';
    send({
      type: 'error',
      name: known && e.name ? String(e.name) : 'Error',
      value: known && 'message' in e ? String(e.message) : util.inspect(e),
      traceback: known && e.stack ? String(e.stack) : util.inspect(e),
    });
    return 1;
  } finally {
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

// Requests are read asynchronously, so that timers and sockets of earlier pieces of code go on between two pieces.
const input = fs.createReadStream(null, { fd: 3 });
let pending = '';
let turn = Promise.resolve();
input.setEncoding('utf8');
input.on('data', (chunk) => {
  pending += chunk;
  for (let end; (end = pending.indexOf('\n')) >= 0; ) {
    const request = JSON.parse(pending.slice(0, end));
    pending = pending.slice(end + 1);
    turn = turn.then(async () => {
      const code = 'reseed' in request ? 0 : await run(request);
      write(1, '\0' + request.marker + '\0');
      write(2, '\0' + request.marker + '\0');
      send({ type: 'done', code });
    });
  }
});
input.on('end', () => process.exit(0));
process.on('uncaughtException', (e) => write(2, (e && e.stack) || String(e)));
process.on('unhandledRejection', (e) => write(2, ((e && e.stack) || String(e)) + '\n'));
