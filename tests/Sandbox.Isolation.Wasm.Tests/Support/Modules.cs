using System.Text;

namespace Sandbox.Isolation.Wasm.Tests.Support;

/// <summary>
/// WebAssembly modules, assembled here byte by byte, so that the tests need no compiler. Each has one memory and one function, _start, without locals.
/// </summary>
internal static class Modules
{
    private const byte I32 = 0x7f;
    private const byte I64 = 0x7e;

    /// <summary>A loop without end.</summary>
    public static byte[] Spin => Program([], [0x03, 0x40, 0x0c, 0x00, 0x0b]);

    /// <summary>Calls itself until something gives out.</summary>
    public static byte[] Recurse => Program([], [0x10, 0x00]);

    /// <summary>Reaches code that it says cannot be reached.</summary>
    public static byte[] Unreachable => Program([], [0x00]);

    /// <summary>Grows its memory by 16 MiB until that fails, touching each piece, and then exits with what it has in units of 16 MiB.</summary>
    public static byte[] Hog => Growing([0x3f, 0x00, 0x41, 0x08, 0x76, 0x10, 0x00]); // proc_exit(memory.size >> 8)

    /// <summary>The same, and then holds what it has.</summary>
    public static byte[] Holder => Growing([0x03, 0x40, 0x0c, 0x00, 0x0b]);

    private static byte[] Growing(byte[] then) => Program(
        [("proc_exit", [I32], false)],
        [
            0x03, 0x40,                                     // loop
            0x41, .. Signed(256), 0x40, 0x00,               //   memory.grow 256 pages
            0x41, 0x7f, 0x47,                               //   != -1
            0x04, 0x40,                                     //   if
            0x3f, 0x00, 0x41, 0x10, 0x74,                   //     memory.size << 16
            0x41, 0x01, 0x6b, 0x41, 0x01, 0x3a, 0x00, 0x00, //     - 1: store a byte there
            0x0c, 0x01,                                     //     again
            0x0b,                                           //   end
            0x0b,                                           // end
            .. then,
        ]);

    /// <summary>Asks the clock without end.</summary>
    public static byte[] ClockFlood => Program(
        [("clock_time_get", [I32, I64, I32], true)],
        [0x03, 0x40, 0x41, 0x00, 0x42, 0x00, 0x41, 0x00, 0x10, 0x00, 0x1a, 0x0c, 0x00, 0x0b]);

    /// <summary>Asks for all random bytes that its memory can hold, again and again.</summary>
    public static byte[] RandomFlood => Program(
        [("random_get", [I32, I32], true)],
        [0x03, 0x40, 0x41, 0x00, 0x41, .. Signed(64 << 16), 0x10, 0x00, 0x1a, 0x0c, 0x00, 0x0b],
        pages: 64);

    /// <summary>Imports what nobody offers.</summary>
    public static byte[] Stranger => Program([("launch_missiles", [], false)], [0x10, 0x00], module: "env");

    /// <summary>Exits with a code.</summary>
    public static byte[] Exit(int code) => Program([("proc_exit", [I32], false)], [0x41, .. Signed(code), 0x10, 0x00]);

    /// <summary>Copies standard input to standard output to its end.</summary>
    public static byte[] Cat => Program(
        [("fd_read", [I32, I32, I32, I32], true), ("fd_write", [I32, I32, I32, I32], true)],
        [
            0x41, 0x00, 0x41, .. Signed(64), 0x36, 0x02, 0x00,         // iov.base = 64
            0x03, 0x40,                                                 // loop
            0x41, 0x04, 0x41, .. Signed(4096), 0x36, 0x02, 0x00,       //   iov.length = 4096
            0x41, 0x00, 0x41, 0x00, 0x41, 0x01, 0x41, 0x08, 0x10, 0x00, 0x1a, // fd_read(0, iov, 1, &n)
            0x41, 0x08, 0x28, 0x02, 0x00,                               //   n
            0x04, 0x40,                                                 //   if
            0x41, 0x04, 0x41, 0x08, 0x28, 0x02, 0x00, 0x36, 0x02, 0x00, //     iov.length = n
            0x41, 0x01, 0x41, 0x00, 0x41, 0x01, 0x41, 0x0c, 0x10, 0x01, 0x1a, // fd_write(1, iov, 1, &m)
            0x0c, 0x01,                                                 //     again
            0x0b, 0x0b,
        ]);

    /// <summary>Writes 4 KiB of zeros to standard output without end.</summary>
    public static byte[] OutputFlood => Program(
        [("fd_write", [I32, I32, I32, I32], true)],
        [
            0x41, 0x00, 0x41, .. Signed(64), 0x36, 0x02, 0x00,
            0x41, 0x04, 0x41, .. Signed(4096), 0x36, 0x02, 0x00,
            0x03, 0x40, 0x41, 0x01, 0x41, 0x00, 0x41, 0x01, 0x41, 0x08, 0x10, 0x00, 0x1a, 0x0c, 0x00, 0x0b,
        ]);

    /// <summary>Has a table larger than any program's.</summary>
    public static byte[] HugeTable =>
    [
        .. Header, .. Section(1, Vector([[0x60, 0x00, 0x00]])), .. Section(3, Vector([[0x00]])), .. Section(4, Vector([[0x70, 0x00, .. Unsigned(50_000_000)]])),
        .. Section(5, Vector([[0x00, 0x01]])), .. Section(7, Vector([Export("memory", 2, 0), Export("_start", 0, 0)])), .. Section(10, Vector([Body([])])),
    ];

    private static byte[] Header => [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

    public static byte[] Program((string Name, byte[] Parameters, bool Returns)[] imports, byte[] code, int pages = 1, string module = "wasi_snapshot_preview1")
    {
        var types = imports.Select(i => (byte[])[0x60, .. Unsigned(i.Parameters.Length), .. i.Parameters, .. i.Returns ? (byte[])[0x01, I32] : [0x00]]).Append([0x60, 0x00, 0x00]);
        var list = imports.Select((i, n) => (byte[])[.. Name(module), .. Name(i.Name), 0x00, .. Unsigned(n)]);
        return
        [
            .. Header, .. Section(1, Vector(types)), .. imports.Length > 0 ? Section(2, Vector(list)) : [], .. Section(3, Vector([Unsigned(imports.Length)])),
            .. Section(5, Vector([[0x00, .. Unsigned(pages)]])), .. Section(7, Vector([Export("memory", 2, 0), Export("_start", 0, imports.Length)])), .. Section(10, Vector([Body(code)])),
        ];
    }

    private static byte[] Body(byte[] code) => [.. Unsigned(code.Length + 2), 0x00, .. code, 0x0b];

    private static byte[] Export(string name, byte kind, int index) => [.. Name(name), kind, .. Unsigned(index)];

    private static byte[] Section(byte id, byte[] content) => [id, .. Unsigned(content.Length), .. content];

    private static byte[] Vector(IEnumerable<byte[]> items)
    {
        var all = items.ToList();
        return [.. Unsigned(all.Count), .. all.SelectMany(i => i)];
    }

    private static byte[] Name(string text) => [.. Unsigned(text.Length), .. Encoding.ASCII.GetBytes(text)];

    private static byte[] Unsigned(int value)
    {
        List<byte> bytes = [];
        for (var rest = (uint)value; ; rest >>= 7)
        {
            if (rest < 0x80)
            {
                bytes.Add((byte)rest);
                return [.. bytes];
            }

            bytes.Add((byte)(rest | 0x80));
        }
    }

    private static byte[] Signed(int value)
    {
        List<byte> bytes = [];
        while (true)
        {
            var part = (byte)(value & 0x7f);
            value >>= 7;
            if ((value == 0 && (part & 0x40) == 0) || (value == -1 && (part & 0x40) != 0))
            {
                bytes.Add(part);
                return [.. bytes];
            }

            bytes.Add((byte)(part | 0x80));
        }
    }
}
