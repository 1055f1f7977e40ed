using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Extensions.Logging.Abstractions;
using Sandbox.Isolation.Firecracker.Memory;
using Sandbox.Isolation.Firecracker.Memory.Userfault;
using Sandbox.Isolation.Firecracker.Tests.Double;
using Xunit;

namespace Sandbox.Isolation.Firecracker.Tests;

/// <summary>Serving memory page by page, with real userfaultfd descriptors where this machine gives them.</summary>
public sealed class UserfaultTests : IDisposable
{
    private const long Length = 4 << 20;
    private const ulong PageBytes = UserfaultRegion.Page;
    private readonly string _folder = Directory.CreateTempSubdirectory("uffd-").FullName;

    public static TheoryData<string, string> Wrong => new()
    {
        { "no JSON", "no JSON" },
        { "{}", "no JSON" },
        { "null", "1 to 16" },
        { "[]", "1 to 16" },
        { "[null]", "1 to 16" },
        { Regions((4096, Length, 0)).Replace("4096,", "-4096,", StringComparison.Ordinal), "no JSON" },
        { Regions((4096, Length, 4096)), "follow one another" },
        { Regions((4096, Length + 4096, 0)), "follow one another" },
        { Regions((4096, Length / 2, 0), (1 << 30, Length / 2, Length / 4)), "follow one another" },
        { Regions((4096, Length / 2, 0)), "the memory file has" },
        { Regions((4097, Length, 0)), "whole pages" },
        { Regions((4096, 0, 0)), "empty" },
        { Regions(Enumerable.Range(0, 17).Select(i => (4096L, 4096L, i * 4096L)).ToArray()), "1 to 16" },
        { Regions((4096, Length, 0)).Replace("\"offset\"", "\"page_size\":2097152,\"offset\"", StringComparison.Ordinal), "pages of 2097152" },
        { Regions((-4096 & long.MaxValue, Length, 0)).Replace((-4096 & long.MaxValue).ToString(), (ulong.MaxValue - 4095).ToString(), StringComparison.Ordinal), "whole pages" },
    };

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    private string SocketPath => Path.Combine(_folder, "pager");

    [Theory]
    [MemberData(nameof(Wrong))]
    public void A_description_that_does_not_fit_the_memory_is_refused(string description, string said) =>
        Assert.Contains(said, Assert.Throws<InvalidDataException>(() => UserfaultRegion.Parse(Encoding.UTF8.GetBytes(description), Length)).Message, StringComparison.Ordinal);

    [Fact]
    public void A_description_in_any_order_that_covers_the_memory_is_taken() =>
        Assert.Equal(2, UserfaultRegion.Parse(Encoding.UTF8.GetBytes(Regions((1 << 30, Length / 2, Length / 2), (4096, Length / 2, 0))), Length).Count);

    [Fact]
    public async Task Every_page_that_is_touched_is_served_from_the_file_and_holes_as_zeros()
    {
        var userfault = OpenOrSkip();
        var (memory, content) = MakeMemory();
        await using var server = new PageServer(SocketPath, memory, Length, Posix.UserId(), NullLogger.Instance);
        var (address, same) = await Task.Run(
            () =>
            {
                var mapped = new UserfaultMemory(userfault, SocketPath, Length);
                var page = new byte[PageBytes];
                var wrong = 0;
                for (var index = 0; index < Length / (long)PageBytes; index++)
                {
                    mapped.Read(index, page);
                    wrong += page.AsSpan().SequenceEqual(content.AsSpan(index * (int)PageBytes, (int)PageBytes)) ? 0 : 1;
                }

                return (mapped, wrong == 0);
            },
            Ct);

        Assert.NotNull(address);
        Assert.True(same);
        Assert.Equal(Length / (long)PageBytes, server.Served);
        Assert.False(server.Ended.IsCompleted);
        memory.Dispose();
    }

    [Fact]
    public async Task Pages_that_were_given_back_read_as_zeros()
    {
        var userfault = OpenOrSkip();
        var (memory, _) = MakeMemory();
        await using var server = new PageServer(SocketPath, memory, Length, null, NullLogger.Instance);
        var zero = await Task.Run(
            () =>
            {
                // With UFFD_FEATURE_EVENT_REMOVE, as Firecracker asks for.
                var mapped = new UserfaultMemory(userfault, SocketPath, Length, features: 1 << 3);
                var page = new byte[PageBytes];
                mapped.Read(5, page);
                var before = page.AsSpan().ContainsAnyExcept((byte)0);
                mapped.GiveBack(5);
                mapped.Read(5, page);
                return before && !page.AsSpan().ContainsAnyExcept((byte)0);
            },
            Ct);

        Assert.True(zero);
        memory.Dispose();
    }

    [Theory]
    [InlineData("[]", "1 to 16")]
    [InlineData(null, "with 0 descriptors")]
    public async Task A_caller_that_makes_no_sense_ends_the_serving_with_a_reason(string? description, string said)
    {
        var (memory, _) = MakeMemory();
        await using var server = new PageServer(SocketPath, memory, Length, null, NullLogger.Instance);
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath), Ct);
        if (description is null)
        {
            await socket.SendAsync("[]"u8.ToArray());
        }
        else
        {
            using var file = File.OpenHandle(Path.Combine(_folder, "memory"));
            Assert.True(Posix.SendDescriptor(socket.SafeHandle, Encoding.UTF8.GetBytes(description), (int)file.DangerousGetHandle()) > 0);
        }

        Assert.Contains(said, await server.Ended.WaitAsync(TimeSpan.FromSeconds(10), Ct), StringComparison.Ordinal);
        memory.Dispose();
    }

    [Fact]
    public async Task Another_user_is_served_nothing()
    {
        var (memory, _) = MakeMemory();
        await using var server = new PageServer(SocketPath, memory, Length, Posix.UserId() + 1, NullLogger.Instance);
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        await socket.ConnectAsync(new UnixDomainSocketEndPoint(SocketPath), Ct);

        Assert.Contains("asked for the memory", await server.Ended.WaitAsync(TimeSpan.FromSeconds(10), Ct), StringComparison.Ordinal);
        memory.Dispose();
    }

    [Fact]
    public async Task A_descriptor_of_another_kind_ends_the_serving()
    {
        var (memory, _) = MakeMemory();
        await using var server = new PageServer(SocketPath, memory, Length, null, NullLogger.Instance);
        SendRegions(SocketPath, Posix.PipeWith([1, 2, 3]));

        Assert.Contains("An event of 3 bytes", await server.Ended.WaitAsync(TimeSpan.FromSeconds(10), Ct), StringComparison.Ordinal);
        memory.Dispose();
    }

    [Fact]
    public async Task A_server_that_nobody_ever_asked_ends_at_once()
    {
        var (memory, _) = MakeMemory();
        var server = new PageServer(SocketPath, memory, Length, null, NullLogger.Instance);
        await server.DisposeAsync();
        Assert.False(server.Ended.IsCompleted);
        memory.Dispose();
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static int OpenOrSkip()
    {
        var userfault = Posix.OpenUserfault();
        Assert.SkipWhen(userfault < 0, "This machine gives this user no userfaultfd.");
        return userfault;
    }

    private (MemoryFile Memory, byte[] Content) MakeMemory()
    {
        var path = Path.Combine(_folder, "memory");
        var content = new byte[Length];
        using (var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write))
        {
            RandomAccess.SetLength(file, Length);
            foreach (var index in (int[])[0, 5, 6, 7, 300, 511, 512, 1023])
            {
                RandomNumberGenerator.Fill(content.AsSpan(index * (int)PageBytes, (int)PageBytes));
                RandomAccess.Write(file, content.AsSpan(index * (int)PageBytes, (int)PageBytes), index * (long)PageBytes);
            }
        }

        return (MemoryFile.Open(path, [], () => { }), content);
    }

    private static void SendRegions(string path, int descriptor)
    {
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(path));
        Assert.True(Posix.SendDescriptor(socket.SafeHandle, Encoding.UTF8.GetBytes(Regions((4096, Length, 0))), descriptor) > 0);
    }

    private static string Regions(params (long Base, long Size, long Offset)[] regions) =>
        "[" + string.Join(',', regions.Select(r => FormattableString.Invariant($"{{\"base_host_virt_addr\":{r.Base},\"size\":{r.Size},\"offset\":{r.Offset}}}"))) + "]";
}
