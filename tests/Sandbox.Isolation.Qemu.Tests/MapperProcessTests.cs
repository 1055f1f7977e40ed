using System.Diagnostics;
using System.Globalization;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Qemu.Memory;
using Sandbox.Qemu.Mapper;
using Xunit;

namespace Sandbox.Isolation.Qemu.Tests;

/// <summary>A process that is made to map something, and what becomes of it.</summary>
public sealed class MapperProcessTests : IAsyncLifetime
{
    private const int Page = 4096;

    /// <summary>A mapping of 64 pages of 'a', and a file of 64 pages of 'b' that is not mapped; says where, and by which descriptor.</summary>
    private const string Begin =
        """
        import ctypes, mmap, os, signal, sys, time
        m = mmap.mmap(-1, 64 * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        m[:] = b'a' * len(m)
        fd = os.memfd_create('other')
        os.write(fd, b'b' * 64 * 4096)
        print(ctypes.addressof(ctypes.c_char.from_buffer(m)), fd, flush=True)
        mapped = lambda: m[0] == m[4096 * 2] == m[-1] == ord('b') and m[4096] == ord('a')

        """;

    private readonly MapperProcess _mapper = new();

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public ValueTask InitializeAsync() => new(_mapper.PrepareAsync(Ct));

    public ValueTask DisposeAsync() => _mapper.DisposeAsync();

    /// <summary>It sleeps in a system call, runs without one, or is interrupted by signals all the time: it goes on where it stood.</summary>
    [Theory]
    [InlineData("while not mapped(): time.sleep(0.01)\nfor i in range(30): time.sleep(0.05)\nprint('done', flush=True)\nsys.stdin.read()")]
    [InlineData("import hashlib\nd = lambda: [h := b'', [h := hashlib.sha256(h).digest() for i in range(200000)], h][2]\nwas = d()\nwhile not mapped(): pass\nprint('done' if d() == was == d() else 'wrong', flush=True)\nsys.stdin.read()")]
    [InlineData("n = 0\ndef count(*_):\n global n\n n += 1\nsignal.signal(signal.SIGALRM, count)\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\nwhile not mapped(): pass\nbefore = n\nwhile n < before + 500: time.sleep(0.01)\nsignal.setitimer(signal.ITIMER_REAL, 0)\nprint('done', flush=True)\nsys.stdin.read()")]
    public async Task A_process_maps_it_and_goes_on_as_if_nothing_had_been(string program)
    {
        using var process = Run(Begin + program);
        var (address, descriptor) = await WhereAsync(process);
        MapPiece[] pieces = [new(address, Page, 0), new(address + (2 * Page), 62 * Page, 2 * Page)];
        var said = process.StandardOutput.ReadLineAsync(Ct).AsTask();
        while (!said.IsCompleted)
        {
            await _mapper.MapAsync(new MapOrder(process.Id, descriptor, pieces), Ct);
        }

        Assert.Equal("done", await said);
        process.StandardInput.Close();
        await process.WaitForExitAsync(Ct);
        Assert.Equal(0, process.ExitCode);
    }

    [Fact]
    public async Task What_cannot_be_mapped_is_said_and_the_process_goes_on()
    {
        using var process = Run(Begin + "print(sys.stdin.readline(), m[0], m[4096])");
        var (address, descriptor) = await WhereAsync(process);
        var error = await Assert.ThrowsAsync<IsolationException>(() => _mapper.MapAsync(new MapOrder(process.Id, descriptor, [new(address, Page, 0), new(address + Page, Page, 1)]), Ct));
        Assert.Contains($"Process {process.Id} could not map 4096 bytes: Invalid argument", error.Message, StringComparison.Ordinal);
        error = await Assert.ThrowsAsync<IsolationException>(() => _mapper.MapAsync(new MapOrder(process.Id, 999, [new(address + Page, Page, 0)]), Ct));
        Assert.Contains("Bad file descriptor", error.Message, StringComparison.Ordinal);
        await process.StandardInput.WriteLineAsync("go");
        Assert.Equal("go", await process.StandardOutput.ReadLineAsync(Ct));
        Assert.Equal($" {(int)'b'} {(int)'a'}", await process.StandardOutput.ReadLineAsync(Ct));
    }

    [Fact]
    public async Task One_that_ends_meanwhile_is_an_error_and_its_exit_is_still_there_for_who_started_it()
    {
        using var process = Run(Begin + "time.sleep(600)");
        var (address, descriptor) = await WhereAsync(process);
        var many = new MapOrder(process.Id, descriptor, [.. Enumerable.Range(0, 200_000).Select(i => new MapPiece(address + (i % 64 * Page), Page, 0))]);
        var mapping = _mapper.MapAsync(many, Ct);
        await Task.Delay(50, Ct);
        process.Kill();
        await Assert.ThrowsAsync<IsolationException>(() => mapping);
        await process.WaitForExitAsync(Ct);
        Assert.Equal(128 + 9, process.ExitCode);
        var error = await Assert.ThrowsAsync<IsolationException>(() => _mapper.MapAsync(many, Ct));
        Assert.Contains($"Process {process.Id} cannot be traced (attach to it)", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task One_that_is_disposed_is_gone_takes_no_order_and_may_be_disposed_again()
    {
        await _mapper.DisposeAsync();
        await _mapper.DisposeAsync();
        await Assert.ThrowsAsync<IsolationException>(() => _mapper.PrepareAsync(Ct));
        await Assert.ThrowsAsync<IsolationException>(() => _mapper.MapAsync(new MapOrder(1, 0, []), Ct));
    }

    private static Process Run(string program) =>
        Process.Start(new ProcessStartInfo("/usr/bin/python3", ["-c", program]) { RedirectStandardOutput = true, RedirectStandardInput = true })!;

    private static async Task<(long Address, int Descriptor)> WhereAsync(Process process)
    {
        var said = (await process.StandardOutput.ReadLineAsync(Ct))!.Split(' ');
        return (long.Parse(said[0], CultureInfo.InvariantCulture), int.Parse(said[1], CultureInfo.InvariantCulture));
    }
}
