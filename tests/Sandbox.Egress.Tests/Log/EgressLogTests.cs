using Microsoft.Extensions.Time.Testing;
using Sandbox.Abstractions;
using Sandbox.Egress.Log;
using Xunit;

namespace Sandbox.Egress.Tests.Log;

public sealed class EgressLogTests : IDisposable
{
    private readonly FakeTimeProvider _time = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));
    private readonly string _directory = Directory.CreateTempSubdirectory("egress-log-").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Fact]
    public async Task Records_are_numbered_timed_and_read_by_page()
    {
        await using var log = Open(null);
        for (var i = 0; i < 5; i++)
        {
            log.Write(Denied($"h{i}.example"));
        }

        var page = await log.ReadAsync(1, 3, TimeSpan.Zero);
        Assert.Equal([1, 2, 3], page.Records.Select(r => r.Seq));
        Assert.Equal((4, 1), (page.Next, page.First));
        Assert.Equal((_time.GetUtcNow(), 9), (page.Records[0].At, page.Records[0].Generation));
        Assert.Equal([4, 5], (await log.ReadAsync(page.Next, 100, TimeSpan.Zero)).Records.Select(r => r.Seq));
        Assert.Equal((0, 6), ((await log.ReadAsync(6, 100, TimeSpan.Zero)).Records.Count, (await log.ReadAsync(6, 100, TimeSpan.Zero)).Next));
    }

    [Fact]
    public async Task A_reader_waits_for_what_is_not_there_yet()
    {
        await using var log = Open(null);
        var waiting = log.ReadAsync(1, 10, TimeSpan.FromSeconds(30));
        Assert.False(waiting.IsCompleted);

        log.Write(Denied("a.example"));

        Assert.Single((await waiting).Records);
    }

    [Fact]
    public async Task A_reader_does_not_wait_longer_than_it_wants()
    {
        await using var log = Open(null);
        var waiting = log.ReadAsync(1, 10, TimeSpan.FromSeconds(30));

        _time.Advance(TimeSpan.FromSeconds(31));

        Assert.Empty((await waiting).Records);
    }

    [Fact]
    public async Task A_reader_that_is_ahead_misses_nothing()
    {
        await using var log = Open(null);
        var waiting = log.ReadAsync(100, 10, TimeSpan.FromSeconds(30));

        log.Write(Denied("a.example"));

        Assert.Equal(1, Assert.Single((await waiting).Records).Seq);
    }

    [Fact]
    public async Task The_oldest_make_room_and_the_page_says_where_it_begins()
    {
        await using var log = Open(null, capacity: 3);
        for (var i = 0; i < 10; i++)
        {
            log.Write(Denied($"h{i}.example"));
        }

        var page = await log.ReadAsync(1, 100, TimeSpan.Zero);
        Assert.Equal([8, 9, 10], page.Records.Select(r => r.Seq));
        Assert.Equal(8, page.First);
    }

    [Fact]
    public async Task Of_a_flood_the_first_passes_and_the_rest_is_counted()
    {
        await using var log = Open(null);
        for (var i = 0; i < 1000; i++)
        {
            log.Write(Denied("evil.example") with { BytesUp = 2 });
            log.Write(Denied("other.example"));
        }

        _time.Advance(TimeSpan.FromSeconds(1));

        var records = (await log.ReadAsync(1, 100, TimeSpan.Zero)).Records;
        Assert.Equal([1, 2, 3, 4], records.Select(r => r.Seq));
        Assert.Equal([1, 1, 999, 999], records.Select(r => r.Count));
        Assert.Equal(2000, records.Where(r => r.Host == "evil.example").Sum(r => r.BytesUp));
        Assert.Equal(2000, log.Counters.Denied);
    }

    [Fact]
    public async Task Sums_are_kept_by_kind()
    {
        await using var log = Open(null);
        log.Write(new EgressRecord { Kind = EgressRecordKind.Connection, Outcome = EgressOutcome.Allowed, BytesUp = 10, BytesDown = 20 });
        log.Write(new EgressRecord { Kind = EgressRecordKind.Connection, Outcome = EgressOutcome.Denied });
        log.Write(new EgressRecord { Kind = EgressRecordKind.Request, Outcome = EgressOutcome.Asked, BytesUp = 5 });
        log.Write(new EgressRecord { Kind = EgressRecordKind.Dns, Outcome = EgressOutcome.WouldDeny });
        log.Write(new EgressRecord { Kind = EgressRecordKind.Drop, Outcome = EgressOutcome.Denied, Count = 7 });

        Assert.Equal(new EgressCounters { Connections = 1, Denied = 2, Requests = 1, DnsQueries = 1, DroppedPackets = 7, BytesUp = 15, BytesDown = 20 }, log.Counters);
    }

    [Fact]
    public async Task A_log_goes_on_from_its_files()
    {
        await using (var log = Open(_directory))
        {
            log.Write(Denied("a.example"));
            log.Write(Denied("a.example"));
            log.Write(Denied("b.example"));
        }

        await File.AppendAllTextAsync(Path.Combine(_directory, "egress.jsonl"), "{\"seq\":99,\"ki");
        await using (var again = Open(_directory))
        {
            again.Write(Denied("c.example"));
            var records = (await again.ReadAsync(1, 10, TimeSpan.Zero)).Records;
            Assert.Equal([1, 2, 3, 4], records.Select(r => r.Seq));
            Assert.Equal("c.example", records[3].Host);
            Assert.Equal(4, again.Counters.Denied);
        }

        await using var third = Open(_directory);
        Assert.Equal([1, 2, 3, 4], (await third.ReadAsync(1, 10, TimeSpan.Zero)).Records.Select(r => r.Seq));
    }

    [Fact]
    public async Task A_log_goes_on_elsewhere()
    {
        EgressLogState state;
        await using (var log = Open(null))
        {
            log.Write(Denied("a.example"));
            state = log.Export();
        }

        await using var there = new EgressLog(new EgressLogOptions { Directory = _directory, Time = _time, Continues = state });
        there.Write(Denied("b.example"));

        Assert.Equal(2, Assert.Single((await there.ReadAsync(1, 10, TimeSpan.Zero)).Records).Seq);
        Assert.Equal(2, there.Counters.Denied);
    }

    [Fact]
    public async Task Files_are_turned_over()
    {
        for (var round = 0; round < 20; round++)
        {
            await using var log = new EgressLog(new EgressLogOptions { Directory = _directory, Time = _time, MaxFileBytes = 1000 });
            for (var i = 0; i < 5; i++)
            {
                log.Write(Denied($"h{i}.example"));
            }
        }

        Assert.All(Directory.GetFiles(_directory), f => Assert.InRange(new FileInfo(f).Length, 1, 3000));
        await using var last = Open(_directory);
        last.Write(Denied("z.example"));
        var page = await last.ReadAsync(1, 1000, TimeSpan.Zero);
        Assert.Equal(101, page.Records[^1].Seq);
        Assert.Equal(page.Records.Select(r => r.Seq), Enumerable.Range((int)page.First, page.Records.Count).Select(i => (long)i));
    }

    [Fact]
    public async Task A_disk_that_fails_does_not_reach_traffic()
    {
        var notADirectory = Path.Combine(_directory, "file");
        await File.WriteAllTextAsync(notADirectory, "");
        await using var log = Open(notADirectory);

        log.Write(Denied("a.example"));

        Assert.Single((await log.ReadAsync(1, 10, TimeSpan.Zero)).Records);
    }

    [Fact]
    public async Task Texts_of_the_guest_stay_in_one_line_of_bounded_length()
    {
        await using var log = Open(null);
        log.Write(Denied(new string('a', 5000)) with { Path = "/a\r\nforged", Reason = new string('r', 5000) });

        var record = Assert.Single(log.Kept());
        Assert.Equal((253, 300), (record.Host!.Length, record.Reason!.Length));
        Assert.DoesNotContain("\n", record.Path, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Many_write_at_once_without_a_gap()
    {
        await using var log = Open(_directory, capacity: 100_000);
        await Parallel.ForAsync(0, 8, (writer, _) =>
        {
            for (var i = 0; i < 500; i++)
            {
                log.Write(Denied($"w{writer}-{i}.example"));
            }

            return ValueTask.CompletedTask;
        });

        Assert.Equal(Enumerable.Range(1, 4000).Select(i => (long)i), log.Kept().Select(r => r.Seq));
    }

    private static EgressRecord Denied(string host) => new() { Kind = EgressRecordKind.Dns, Outcome = EgressOutcome.Denied, Host = host };

    private EgressLog Open(string? directory, int capacity = 1000) => new(new EgressLogOptions { Directory = directory, Capacity = capacity, Time = _time, Generation = 9 });
}
