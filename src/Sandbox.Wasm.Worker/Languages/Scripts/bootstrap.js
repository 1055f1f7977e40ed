// Gives QuickJS what programs expect around a language: console, timers, files, process. Called with the one function of the host; answers with what the host calls.
(function (host) {
    "use strict";
    const env = {}, argv = [];
    const call = (op, ...args) => host(op, ...args);
    const parse = text => JSON.parse(text);

    // ---- showing values
    const plain = /^[A-Za-z_$][\w$]*$/;
    function quote(text) {
        const json = JSON.stringify(text).slice(1, -1).replace(/\\"/g, '"');
        return "'" + json.replace(/'/g, "\\'") + "'";
    }
    function inspect(value, depth = 2, seen = []) {
        switch (typeof value) {
            case "string": return quote(value);
            case "bigint": return value + "n";
            case "symbol": return value.toString();
            case "undefined": return "undefined";
            case "number": return Object.is(value, -0) ? "-0" : String(value);
            case "function": return nameOf(value);
            case "boolean": return String(value);
        }
        if (value === null) return "null";
        if (seen.includes(value)) return "[Circular]";
        if (value instanceof Error) return errorText(value);
        if (value instanceof Date) return isNaN(value) ? "Invalid Date" : value.toISOString();
        if (value instanceof RegExp) return String(value);
        if (value instanceof Promise) return "Promise {}";
        const name = value.constructor && value.constructor.name;
        if (depth < 0) return Array.isArray(value) ? "[Array]" : `[${name || "Object"}]`;
        const inner = v => inspect(v, depth - 1, [...seen, value]);
        if (value instanceof Map) return list(`Map(${value.size}) {`, [...value].map(([k, v]) => inner(k) + " => " + inner(v)), "}");
        if (value instanceof Set) return list(`Set(${value.size}) {`, [...value].map(inner), "}");
        if (value instanceof ArrayBuffer) return `ArrayBuffer { byteLength: ${value.byteLength} }`;
        if (Array.isArray(value) || ArrayBuffer.isView(value)) {
            const length = value.length ?? value.byteLength;
            const items = [];
            for (let i = 0; i < Math.min(length, 100); i++) items.push(i in value ? inner(value[i]) : "<empty>");
            if (length > 100) items.push(`... ${length - 100} more items`);
            return list(Array.isArray(value) ? "[" : `${name}(${length}) [`, items, "]");
        }
        const keys = Reflect.ownKeys(value).filter(k => Object.getOwnPropertyDescriptor(value, k)?.enumerable);
        const items = keys.slice(0, 100).map(k => {
            const d = Object.getOwnPropertyDescriptor(value, k);
            const shown = d.get ? (d.set ? "[Getter/Setter]" : "[Getter]") : d.set ? "[Setter]" : inner(d.value);
            return (typeof k === "symbol" ? `[${k.toString()}]` : plain.test(k) ? k : quote(k)) + ": " + shown;
        });
        if (keys.length > 100) items.push(`... ${keys.length - 100} more`);
        const prefix = Object.getPrototypeOf(value) === null ? "[Object: null prototype] " : name && name !== "Object" ? name + " " : "";
        return list(prefix + "{", items, "}");
    }
    function nameOf(f) {
        const kind = /^class\b/.test(Function.prototype.toString.call(f)) ? "class" : "Function";
        return f.name ? `[${kind}${kind === "class" ? " " : ": "}${f.name}]` : `[${kind} (anonymous)]`;
    }
    function list(open, items, close) {
        if (items.length === 0) return open + close;
        const one = `${open} ${items.join(", ")} ${close}`;
        return one.length <= 76 && !one.includes("\n") ? one : `${open}\n  ${items.join(",\n").replace(/\n/g, "\n  ")}\n${close}`;
    }
    function errorText(e) {
        const stack = String(e.stack ?? "").trimEnd();
        const cause = e.cause === undefined ? "" : "\n[cause]: " + inspect(e.cause);
        return `${e.name}: ${e.message}${stack ? "\n" + stack : ""}${cause}`;
    }
    function format(args) {
        if (typeof args[0] !== "string" || !args[0].includes("%")) return args.map(a => typeof a === "string" ? a : inspect(a)).join(" ");
        let next = 1;
        const head = args[0].replace(/%([sdifjoOc%])/g, (all, kind) => {
            if (kind === "%") return "%";
            if (next >= args.length) return all;
            const arg = args[next++];
            switch (kind) {
                case "s": return typeof arg === "string" ? arg : inspect(arg, 0);
                case "d": return String(Number(arg));
                case "i": return String(parseInt(arg));
                case "f": return String(parseFloat(arg));
                case "j": return JSON.stringify(arg);
                case "c": return "";
                default: return inspect(arg, 4);
            }
        });
        return [head, ...args.slice(next).map(a => typeof a === "string" ? a : inspect(a))].join(" ");
    }

    // ---- console
    let indent = "";
    const counts = new Map(), times = new Map();
    const print = (fd, args) => call("write", fd, (indent ? format(args).replace(/^/gm, indent) : format(args)) + "\n");
    const console = {
        log: (...a) => print("1", a), info: (...a) => print("1", a), debug: (...a) => print("1", a),
        error: (...a) => print("2", a), warn: (...a) => print("2", a), trace: (...a) => print("2", ["Trace:", ...a]),
        dir: v => print("1", [inspect(v)]),
        assert: (ok, ...a) => { if (!ok) print("2", ["Assertion failed" + (a.length ? ":" : ""), ...a]); },
        group: (...a) => { if (a.length) print("1", a); indent += "  "; },
        groupEnd: () => { indent = indent.slice(2); },
        count: (label = "default") => { const n = (counts.get(label) ?? 0) + 1; counts.set(label, n); print("1", [`${label}: ${n}`]); },
        time: (label = "default") => { times.set(label, performance.now()); },
        timeEnd: (label = "default") => { print("1", [`${label}: ${(performance.now() - times.get(label)).toFixed(3)}ms`]); times.delete(label); },
        table: rows => print("1", [inspect(rows, 3)]),
    };

    // ---- timers
    let nextTimer = 1;
    const timers = new Map();
    const add = (fn, delay, args, every) => {
        const id = nextTimer++;
        const wait = Math.max(every ? 1 : 0, Number(delay) || 0);
        timers.set(id, { at: Date.now() + wait, fn, args, every: every ? wait : 0 });
        return id;
    };
    const remove = id => { timers.delete(id); };

    // ---- files
    const bytesOf = data => {
        if (typeof data === "string") return data;
        if (data instanceof ArrayBuffer) return data;
        if (ArrayBuffer.isView(data)) return data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
        return String(data);
    };
    const encodingOf = options => typeof options === "string" ? options : options?.encoding;
    const statOf = text => {
        const s = parse(text);
        return { ...s, mtime: new Date(s.mtimeMs), isFile: () => s.type === "file", isDirectory: () => s.type === "directory", isSymbolicLink: () => s.type === "link" };
    };
    const fs = {
        readFileSync: (path, options) => encodingOf(options) ? call("readText", String(path)) : new Uint8Array(call("read", String(path))),
        writeFileSync: (path, data) => void call("write_file", String(path), bytesOf(data), ""),
        appendFileSync: (path, data) => void call("write_file", String(path), bytesOf(data), "append"),
        existsSync: path => { try { call("stat", String(path)); return true; } catch { return false; } },
        statSync: path => statOf(call("stat", String(path))),
        readdirSync: path => parse(call("list", String(path))),
        mkdirSync: (path, options) => void call("mkdir", String(path), options?.recursive ? "parents" : ""),
        rmSync: (path, options) => { try { call("remove", String(path), options?.recursive ? "recursive" : ""); } catch (e) { if (!options?.force) throw e; } },
        unlinkSync: path => void call("remove", String(path), "file"),
        rmdirSync: path => void call("remove", String(path), "directory"),
        renameSync: (from, to) => void call("rename", String(from), String(to)),
        copyFileSync: (from, to) => fs.writeFileSync(to, fs.readFileSync(from)),
    };
    fs.promises = {};
    for (const name of Object.keys(fs)) {
        if (name.endsWith("Sync")) fs.promises[name.slice(0, -4)] = async (...args) => fs[name](...args);
    }
    fs.promises.access = async path => { fs.statSync(path); };

    const path = {
        sep: "/",
        join: (...parts) => path.normalize(parts.filter(p => p).join("/")),
        normalize: p => {
            const out = [];
            for (const part of p.split("/")) {
                if (part === "..") { if (out.length && out[out.length - 1] !== "..") out.pop(); else if (!p.startsWith("/")) out.push(part); }
                else if (part && part !== ".") out.push(part);
            }
            return (p.startsWith("/") ? "/" : "") + out.join("/") || ".";
        },
        resolve: (...parts) => path.normalize(parts.reduce((at, p) => p.startsWith("/") ? p : at + "/" + p, call("cwd"))),
        basename: (p, end) => { const b = p.replace(/\/+$/, "").split("/").pop(); return end && b.endsWith(end) ? b.slice(0, -end.length) : b; },
        dirname: p => { const d = p.replace(/\/+$/, "").split("/").slice(0, -1).join("/"); return d || (p.startsWith("/") ? "/" : "."); },
        extname: p => /[^/](\.[^./]*)$/.exec(p)?.[1] ?? "",
    };

    const output = fd => ({ write: text => { call("write", fd, typeof text === "string" ? text : bytesOf(text)); return true; }, isTTY: false });
    const process = {
        argv, env, platform: "wasi", arch: "wasm32", exitCode: undefined,
        version: "", versions: { quickjs: "ng" }, pid: 1,
        cwd: () => call("cwd"), chdir: to => void call("chdir", String(to)),
        exit: code => void call("exit", String(code ?? process.exitCode ?? 0)),
        stdout: output("1"), stderr: output("2"),
        stdin: { read: () => call("stdin"), [Symbol.asyncIterator]: async function* () { const all = call("stdin"); if (all) yield all; } },
        hrtime: Object.assign(() => { const t = performance.now(); return [Math.floor(t / 1000), Math.floor((t % 1000) * 1e6)]; }, { bigint: () => BigInt(Math.floor(performance.now() * 1e6)) }),
        nextTick: (fn, ...args) => queueMicrotask(() => fn(...args)),
        memoryUsage: () => ({ heapUsed: 0 }),
        on: () => process,
    };

    const modules = { fs, path, process, "fs/promises": fs.promises, util: { inspect: v => inspect(v), format: (...a) => format(a) } };
    const loaded = new Map();
    function requireFrom(directory) {
        return function require(name) {
            const known = modules[name.replace(/^node:/, "")];
            if (known) return known;
            if (!/^[./]/.test(name)) throw Object.assign(new Error(`Cannot find module '${name}': only fs, path, process, util and files of the session can be required`), { code: "MODULE_NOT_FOUND" });
            const base = path.normalize(name.startsWith("/") ? name : directory + "/" + name);
            const file = [base, base + ".js", base + ".json", base + "/index.js"].find(f => fs.existsSync(f) && fs.statSync(f).isFile());
            if (!file) throw Object.assign(new Error(`Cannot find module '${name}'`), { code: "MODULE_NOT_FOUND" });
            if (loaded.has(file)) return loaded.get(file).exports;
            const module = { exports: {}, filename: file };
            loaded.set(file, module);
            if (file.endsWith(".json")) module.exports = JSON.parse(fs.readFileSync(file, "utf8"));
            else (0, eval)(`(function (exports, require, module, __filename, __dirname) {${fs.readFileSync(file, "utf8")}\n})`)(module.exports, requireFrom(path.dirname(file)), module, file, path.dirname(file));
            return module.exports;
        };
    }

    class TextEncoder {
        encode(text = "") { return new Uint8Array(call("encode", String(text))); }
    }
    class TextDecoder {
        decode(data) { return data === undefined ? "" : call("decode", bytesOf(data)); }
    }
    const crypto = {
        getRandomValues: array => { new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(new Uint8Array(call("random", String(array.byteLength)))); return array; },
        randomUUID: () => call("uuid"),
    };

    const globals = {
        console, setTimeout: (fn, delay, ...args) => add(fn, delay, args, false), setInterval: (fn, delay, ...args) => add(fn, delay, args, true),
        setImmediate: (fn, ...args) => add(fn, 0, args, false), clearTimeout: remove, clearInterval: remove, clearImmediate: remove,
        process, require: name => requireFrom(call("cwd"))(name), TextEncoder, TextDecoder, crypto, structuredClone: v => JSON.parse(JSON.stringify(v)), global: globalThis,
        print: (...a) => print("1", a),
    };
    for (const [name, value] of Object.entries(globals)) {
        Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
    }

    // ---- what the host calls
    return function (op, value) {
        switch (op) {
            case "show":
                return value === undefined ? undefined : inspect(value);
            case "error":
                return JSON.stringify(value instanceof Error || (value && typeof value === "object" && "message" in value)
                    ? { name: String(value.name ?? "Error"), value: String(value.message), traceback: errorText(value) }
                    : { name: typeof value, value: inspect(value), traceback: "Uncaught " + inspect(value) });
            case "tick": {
                // Runs the timers that are due; answers how long the next one has to wait, or nothing.
                const now = Date.now();
                const due = [...timers].filter(([, t]) => t.at <= now).sort((a, b) => a[1].at - b[1].at || a[0] - b[0]);
                if (due.length) {
                    const [id, t] = due[0];
                    if (t.every) t.at = now + t.every; else timers.delete(id);
                    t.fn(...t.args);
                }
                let next = Infinity;
                for (const t of timers.values()) next = Math.min(next, t.at);
                return next === Infinity ? "" : String(Math.max(0, next - Date.now()));
            }
            case "adopt": {
                const given = JSON.parse(value);
                Object.assign(env, given.env);
                argv.push(...given.argv);
                return;
            }
            case "env": {
                const before = {};
                for (const [k, v] of Object.entries(JSON.parse(value))) {
                    before[k] = k in env ? env[k] : null;
                    if (v === null) delete env[k]; else env[k] = v;
                }
                return JSON.stringify(before);
            }
            case "code":
                return process.exitCode === undefined ? "0" : String(process.exitCode);
        }
    };
})
