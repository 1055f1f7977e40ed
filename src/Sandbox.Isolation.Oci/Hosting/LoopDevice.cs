using System.Buffers.Binary;
using System.Globalization;
using Microsoft.Win32.SafeHandles;
using Sandbox.Isolation.Backends;

namespace Sandbox.Isolation.Oci.Hosting;

/// <summary>
/// A block device over a disk's file. The kernel gives it up by itself once nothing has it mounted or open, so that it goes with the container whatever becomes of this program.
/// </summary>
internal sealed class LoopDevice : IDisposable
{
    private const nuint GetFree = 0x4C82;
    private const nuint Configure = 0x4C0A;
    private const int ConfigurationBytes = 304;
    private const int FlagsOffset = 8 + 52;
    private const uint AutoClear = 4;
    private static readonly Lock Choosing = new();
    private readonly SafeFileHandle _device;

    private LoopDevice(int number, SafeFileHandle device) => (Number, _device) = (number, device);

    public int Number { get; }

    public string Path => string.Create(CultureInfo.InvariantCulture, $"/dev/loop{Number}");

    private static string BackingFile(int number) => string.Create(CultureInfo.InvariantCulture, $"/sys/block/loop{number}/loop/backing_file");

    /// <exception cref="IOException">There is no free device, or the file cannot be opened.</exception>
    public static unsafe LoopDevice Open(string file)
    {
        using var control = File.OpenHandle("/dev/loop-control", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        using var disk = File.OpenHandle(file, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        Span<byte> configuration = stackalloc byte[ConfigurationBytes];
        configuration.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(configuration, (uint)disk.DangerousGetHandle());
        BinaryPrimitives.WriteUInt32LittleEndian(configuration[FlagsOffset..], AutoClear);
        for (var tries = 0; ; tries++)
        {
            lock (Choosing)
            {
                var number = Kernel.IoControl(control, GetFree, null);
                if (number < 0)
                {
                    throw new IOException("the kernel has no loop device for the session's disk");
                }

                var device = File.OpenHandle(string.Create(CultureInfo.InvariantCulture, $"/dev/loop{number}"), FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
                fixed (byte* given = configuration)
                {
                    if (Kernel.IoControl(device, Configure, given) == 0)
                    {
                        return new LoopDevice(number, device);
                    }
                }

                device.Dispose();
            }

            // Another program took it in between.
            if (tries == 50)
            {
                throw new IOException($"no loop device takes {file}: {System.Runtime.InteropServices.Marshal.GetLastPInvokeErrorMessage()}");
            }

            Thread.Sleep(2);
        }
    }

    /// <summary>Waits until no device has a disk any more: two file systems over one disk would destroy it. Devices go a moment after their container.</summary>
    /// <exception cref="IsolationException">One still has it after <paramref name="patience"/>.</exception>
    public static async Task WaitUntilFreeAsync(string file, TimeSpan patience, CancellationToken cancellationToken)
    {
        var deadline = DateTime.UtcNow + patience;
        var full = System.IO.Path.GetFullPath(file);
        for (var numbers = Holders(full, null); numbers.Count > 0; numbers = Holders(full, numbers))
        {
            if (DateTime.UtcNow > deadline)
            {
                throw new IsolationException($"The disk {file} is still mounted (loop device {numbers[0]}): whatever had it before has not ended.");
            }

            await Task.Delay(2, cancellationToken);
        }
    }

    /// <summary>Waits until the device is given up, where it still is of the same file.</summary>
    public static async Task<bool> WaitUntilGoneAsync(int number, string file, TimeSpan patience)
    {
        var deadline = DateTime.UtcNow + patience;
        while (Holders(System.IO.Path.GetFullPath(file), [number]).Count > 0)
        {
            if (DateTime.UtcNow > deadline)
            {
                return false;
            }

            await Task.Delay(1);
        }

        return true;
    }

    public void Dispose() => _device.Dispose();

    private static List<int> Holders(string file, IReadOnlyList<int>? among)
    {
        var numbers = among ?? [.. Directory.EnumerateDirectories("/sys/block", "loop*").Select(d => int.Parse(System.IO.Path.GetFileName(d).AsSpan(4), CultureInfo.InvariantCulture))];
        List<int> holders = [];
        foreach (var number in numbers)
        {
            try
            {
                if (File.Exists(BackingFile(number)) && File.ReadAllText(BackingFile(number)).TrimEnd('\n') == file)
                {
                    holders.Add(number);
                }
            }
            catch (IOException)
            {
                // Given up while it was read.
            }
        }

        return holders;
    }
}
