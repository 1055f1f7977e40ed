using System.Net;
using Sandbox.Abstractions;
using Sandbox.Egress.Dns;
using Sandbox.Egress.Policy;
using Sandbox.Isolation.Network;
using Xunit;

namespace Sandbox.Egress.Tests.Dns;

public sealed class SessionDnsTests
{
    private static readonly EgressPolicy Pip = new() { Presets = ["pip"], Rules = [new EgressRule { Host = "*.example.org" }] };

    [Fact]
    public async Task An_allowed_name_is_pinned_and_its_ports_are_open_before_it_is_answered()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223", "151.101.64.223");

        var reply = await dns.AskAsync("PyPi.ORG");

        Assert.Equal((0, 0x1234, "PyPi.ORG", 60), (reply.Code, reply.Id, reply.Question, reply.Ttl));
        Assert.Equal(["151.101.0.223", "151.101.64.223"], reply.Addresses);
        Assert.Equal([new OpenEndpoint(IPAddress.Parse("151.101.0.223"), 443, TimeSpan.FromSeconds(180)), new OpenEndpoint(IPAddress.Parse("151.101.64.223"), 443, TimeSpan.FromSeconds(180))], dns.Opened);
        Assert.True(dns.Names.Holds("pypi.org", IPAddress.Parse("151.101.0.223")));
        Assert.Equal("pypi.org", dns.Names.NameOf(IPAddress.Parse("151.101.64.223")));
        var record = Assert.Single(dns.Records);
        Assert.Equal((EgressRecordKind.Dns, EgressOutcome.Allowed, "pypi.org", "preset pip"), (record.Kind, record.Outcome, record.Host, record.By));
    }

    [Fact]
    public async Task A_pin_outlives_its_time_by_the_grace_and_no_more()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");
        await dns.AskAsync("pypi.org");

        dns.Time.Advance(TimeSpan.FromSeconds(60) + PinnedNames.Grace - TimeSpan.FromSeconds(1));
        Assert.True(dns.Names.Holds("pypi.org", IPAddress.Parse("151.101.0.223")));
        Assert.Equal(TimeSpan.FromSeconds(1), Assert.Single(dns.Names.EndpointsUnder(dns.Dns.Decisions)).Lifetime);

        dns.Time.Advance(TimeSpan.FromSeconds(1));
        Assert.False(dns.Names.Holds("pypi.org", IPAddress.Parse("151.101.0.223")));
        Assert.Null(dns.Names.NameOf(IPAddress.Parse("151.101.0.223")));
    }

    [Fact]
    public async Task A_name_that_is_not_allowed_does_not_exist_and_the_answer_says_why()
    {
        await using var dns = new DnsFixture(Pip).Has("evil.example", 60, "6.6.6.6");

        var reply = await dns.AskAsync("evil.example", edns: true);

        Assert.Equal(3, reply.Code);
        Assert.Contains("no rule or preset allows evil.example", reply.Text, StringComparison.Ordinal);
        Assert.Empty(dns.Asked);
        Assert.Empty(dns.Opened);
        Assert.Equal((EgressOutcome.Denied, "unmatched"), (Assert.Single(dns.Records).Outcome, Assert.Single(dns.Records).By));
    }

    [Theory]
    [InlineData(28)]
    [InlineData(64)]
    [InlineData(65)]
    public async Task Ipv6_and_service_records_are_empty(int type)
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");

        var reply = await dns.AskAsync("pypi.org", (ushort)type);

        Assert.Equal((0, 0), (reply.Code, reply.AnswerCount));
        Assert.Empty(dns.Asked);
        Assert.Equal(3, (await dns.AskAsync("evil.example", (ushort)type)).Code);
    }

    [Theory]
    [InlineData(16)]
    [InlineData(255)]
    [InlineData(252)]
    [InlineData(15)]
    [InlineData(10)]
    public async Task Other_types_are_refused(int type)
    {
        await using var dns = new DnsFixture(Pip);
        Assert.Equal(5, (await dns.AskAsync("pypi.org", (ushort)type)).Code);
        Assert.Empty(dns.Asked);
    }

    [Fact]
    public async Task Addresses_that_are_not_public_are_left_out_and_a_name_with_none_else_is_rebinding()
    {
        await using var dns = new DnsFixture(Pip).Has("a.example.org", 60, "10.0.0.1", "93.184.216.34").Has("b.example.org", 60, "169.254.169.254", "127.0.0.1");

        Assert.Equal(["93.184.216.34"], (await dns.AskAsync("a.example.org")).Addresses);
        var reply = await dns.AskAsync("b.example.org", edns: true);

        Assert.Equal((3, 0), (reply.Code, reply.AnswerCount));
        Assert.Contains("rebinding", dns.Records.Last().Reason, StringComparison.Ordinal);
        Assert.Equal(EgressOutcome.Denied, dns.Records.Last().Outcome);
        Assert.All(dns.Opened, o => Assert.Equal("93.184.216.34", o.Address.ToString()));
    }

    [Theory]
    [InlineData(0, 5)]
    [InlineData(86400, 300)]
    public async Task Times_are_kept_within_bounds(int ttl, int expected)
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", ttl, "151.101.0.223");
        Assert.Equal(expected, (await dns.AskAsync("pypi.org")).Ttl);
    }

    [Fact]
    public async Task What_is_known_is_not_asked_for_again_until_its_time_is_up()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");
        await dns.AskAsync("pypi.org");
        dns.Time.Advance(TimeSpan.FromSeconds(20));

        Assert.Equal(40, (await dns.AskAsync("pypi.org")).Ttl);
        Assert.Single(dns.Asked);

        dns.Time.Advance(TimeSpan.FromSeconds(41));
        await dns.AskAsync("pypi.org");
        Assert.Equal(2, dns.Asked.Count);
    }

    [Fact]
    public async Task Many_who_ask_at_the_same_time_make_one_question()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");
        dns.Slow = new TaskCompletionSource();

        var replies = Enumerable.Range(0, 20).Select(_ => dns.AskAsync("pypi.org")).ToArray();
        dns.Slow.SetResult();

        Assert.All(await Task.WhenAll(replies), r => Assert.Equal(1, r.AnswerCount));
        Assert.Single(dns.Asked);
    }

    [Fact]
    public async Task Name_servers_that_do_not_answer_are_a_failure()
    {
        await using var dns = new DnsFixture(Pip);
        dns.Slow = new TaskCompletionSource();

        var reply = dns.AskAsync("pypi.org", edns: true);
        dns.Time.Advance(TimeSpan.FromSeconds(11));

        Assert.Equal(2, (await reply).Code);
        Assert.Equal(EgressOutcome.Failed, Assert.Single(dns.Records).Outcome);
    }

    [Fact]
    public async Task A_firewall_that_cannot_be_opened_is_a_failure()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 60, "151.101.0.223");
        dns.FirewallFails = true;
        Assert.Equal(2, (await dns.AskAsync("pypi.org")).Code);
    }

    [Fact]
    public async Task A_policy_that_is_tried_out_resolves_everything_and_says_what_it_would_have_denied()
    {
        await using var dns = new DnsFixture(Pip with { Mode = EgressMode.DryRun }).Has("other.example", 60, "93.184.216.34");

        Assert.Equal(["93.184.216.34"], (await dns.AskAsync("other.example")).Addresses);

        Assert.True(dns.Names.Holds("other.example", IPAddress.Parse("93.184.216.34")));
        Assert.Equal(EgressOutcome.WouldDeny, Assert.Single(dns.Records).Outcome);
    }

    [Fact]
    public async Task A_change_of_policy_holds_from_the_next_question_on()
    {
        await using var dns = new DnsFixture(EgressPolicy.Nothing).Has("pypi.org", 60, "151.101.0.223");
        Assert.Equal(3, (await dns.AskAsync("pypi.org")).Code);

        dns.Dns.Decisions = new CompiledPolicy(Pip);

        Assert.Equal(0, (await dns.AskAsync("pypi.org")).Code);
    }

    [Fact]
    public async Task The_firewall_hears_of_a_name_again_only_when_it_must()
    {
        await using var dns = new DnsFixture(Pip).Has("pypi.org", 200, "151.101.0.223");
        await dns.AskAsync("pypi.org");
        await dns.AskAsync("pypi.org");
        Assert.Single(dns.Opened);

        dns.Time.Advance(TimeSpan.FromSeconds(201));
        await dns.AskAsync("pypi.org");
        Assert.Equal(2, dns.Opened.Count);

        dns.Dns.Decisions = dns.Dns.Decisions;
        await dns.AskAsync("pypi.org");
        Assert.Equal(3, dns.Opened.Count);
    }

    [Fact]
    public async Task Data_in_names_is_stopped()
    {
        await using var dns = new DnsFixture(Pip with { Limits = new EgressLimits { DnsQueriesPerSecond = 1000 } });
        var random = new Random(1);

        var passed = 0;
        for (var i = 0; i < 100; i++)
        {
            var label = new string([.. Enumerable.Range(0, 60).Select(_ => "abcdefghijklmnopqrstuvwxyz234567"[random.Next(32)])]);
            passed += (await dns.AskAsync($"{label}.t.example.org")).Code == 3 ? 1 : 0;
        }

        Assert.Equal(DnsDefence.MaxWeight / DnsDefence.EncodedWeight, passed);
        Assert.Contains("DNS tunnel", dns.Records.Last().Reason, StringComparison.Ordinal);
        dns.Time.Advance(DnsDefence.Window);
        Assert.Equal(3, (await dns.AskAsync("www.example.org")).Code);
    }

    [Fact]
    public async Task Short_names_are_counted_too_and_known_ones_go_on()
    {
        await using var dns = new DnsFixture(Pip with { Limits = new EgressLimits { DnsQueriesPerSecond = 1000 } }).Has("n0.example.org", 5, "93.184.216.34");
        for (var i = 0; i < DnsDefence.MaxWeight; i++)
        {
            Assert.NotEqual(5, (await dns.AskAsync($"n{i}.example.org")).Code);
        }

        Assert.Equal(5, (await dns.AskAsync("more.example.org")).Code);
        dns.Time.Advance(TimeSpan.FromSeconds(10));
        Assert.Equal(0, (await dns.AskAsync("n0.example.org")).Code);
    }

    [Fact]
    public async Task Too_many_queries_are_refused_until_time_has_passed()
    {
        await using var dns = new DnsFixture(Pip with { Limits = new EgressLimits { DnsQueriesPerSecond = 5 } }).Has("pypi.org", 60, "151.101.0.223");
        for (var i = 0; i < 10; i++)
        {
            Assert.Equal(0, (await dns.AskAsync("pypi.org")).Code);
        }

        Assert.Equal(5, (await dns.AskAsync("pypi.org")).Code);
        dns.Time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(0, (await dns.AskAsync("pypi.org")).Code);
    }

    [Theory]
    [InlineData("pypi.org.localdomain")]
    [InlineData("metadata.google.internal")]
    [InlineData("intranet")]
    [InlineData("printer.local")]
    public async Task Local_names_and_suffixes_of_search_lists_are_not_asked_for(string name)
    {
        await using var dns = new DnsFixture(EgressPolicy.Internet).Has(name, 60, "93.184.216.34");
        Assert.Equal(3, (await dns.AskAsync(name)).Code);
        Assert.Empty(dns.Asked);
    }

    [Fact]
    public async Task A_long_answer_is_cut_over_udp_and_whole_over_tcp_or_with_edns()
    {
        var name = $"{new string('a', 63)}.{new string('b', 63)}.{new string('c', 63)}.{new string('d', 40)}.example.org";
        await using var dns = new DnsFixture(Pip).Has(name, 60, [.. Enumerable.Range(1, 20).Select(i => $"93.184.216.{i}")]);

        Assert.True((await dns.AskAsync(name)).IsCut);
        Assert.Equal(0, (await dns.AskAsync(name)).AnswerCount);
        Assert.Equal(16, (await dns.AskAsync(name, tcp: true)).AnswerCount);
        Assert.Equal(16, (await dns.AskAsync(name, edns: true)).AnswerCount);
    }

    [Fact]
    public void Pins_are_bounded()
    {
        var names = new PinnedNames(new NameResolver(new DnsFixture(Pip)));
        for (var i = 0; i < 10_000; i++)
        {
            names.Pin($"n{i}.example.org", [new IPAddress([93, 184, (byte)(i >> 8), (byte)i])], TimeSpan.FromSeconds(60));
        }

        Assert.InRange(names.Count, PinnedNames.Capacity / 2, PinnedNames.Capacity);
        Assert.True(names.Holds("n9999.example.org", new IPAddress([93, 184, 9999 >> 8, 9999 & 255])));
    }

    [Theory]
    [InlineData("www.example.org", "example.org")]
    [InlineData("a.b.example.co.uk", "example.co.uk")]
    [InlineData("example.org", "example.org")]
    [InlineData("a.example.de", "example.de")]
    public void The_registered_domain_is_found(string name, string expected) => Assert.Equal(expected, DnsDefence.RegisteredDomain(name));
}
