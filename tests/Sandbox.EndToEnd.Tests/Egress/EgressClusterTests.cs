using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using Sandbox.Abstractions;
using Sandbox.Client;
using Sandbox.EndToEnd.Tests.Cluster;
using Sandbox.EndToEnd.Tests.Harness;
using Sandbox.TestSupport;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Egress;

/// <summary>The controlled door over more than one host, and over more than one tenant.</summary>
[Collection(OutsideWorld.Name)]
public sealed class EgressClusterTests(OutsideWorld world)
{
    private const string Value = "cl0ster-Value-0123456789abcdef";
    private const string Ask = "curl -sS -H \"Authorization: Bearer $CLUSTER_TOKEN\" https://api.test/echo";

    [Fact]
    public async Task Policy_secrets_sums_and_log_go_with_a_session_from_host_to_host_and_over_the_death_of_one()
    {
        await using var postgres = await PostgresServer.StartAsync();
        await using var redis = await RedisServer.StartAsync();
        string[] cluster = [.. await ClusterArguments.MakeAsync(postgres, redis), "--config", world.Config];
        await using var a = await SandboxServer.StartAsync(null, [.. cluster, "--host-id", "host-a"]);
        await a.Api.SendAsync(new HttpRequestMessage(HttpMethod.Put, "/v1/secrets/cluster-token") { Content = JsonContent.Create(new { value = Value, hosts = new[] { "api.test" } }) }, HttpStatusCode.OK);
        var paused = await CreateAsync(a.Api, new JsonObject());
        var live = await CreateAsync(a.Api, new JsonObject { ["checkpoints"] = new JsonObject { ["afterEachExecution"] = true } });
        foreach (var id in (string[])[paused, live])
        {
            await CheckAsync(a.Api, id);
        }

        // A change of policy is the session's and not its host's.
        await a.Api.SendAsync(new HttpRequestMessage(HttpMethod.Put, $"/v1/sessions/{live}/egress") { Content = Policy(withRegistry: true) }, HttpStatusCode.OK);
        Assert.Equal("200", (await a.Api.ShellAsync(live, "curl -sSk -o /dev/null -w '%{http_code}' https://registry.test/simple/sbxdemo/")).Stdout);
        await Patience.EventuallyAsync(async () =>
        {
            Assert.NotEmpty((await a.Api.GetAsync($"/v1/sessions/{live}/checkpoints"))["checkpoints"]!.AsArray());
            return true;
        });
        await using var b = await SandboxServer.StartAsync(null, [.. cluster, "--host-id", "host-b"]);
        await b.Api.UntilHostsAsync(hosts => hosts.Count == 2 && hosts.All(CanTakeSessions), TimeSpan.FromSeconds(60));
        await a.Api.PostAsync($"/v1/sessions/{paused}/pause?wait=60");
        var before = new Dictionary<string, (JsonNode Egress, List<JsonNode> Log)>
        {
            [paused] = (await a.Api.GetAsync($"/v1/sessions/{paused}/egress"), await LogAsync(b.Api, paused)),
            [live] = (await a.Api.GetAsync($"/v1/sessions/{live}/egress"), await LogAsync(b.Api, live)),
        };
        Assert.Equal(Enumerable.Range(1, before[paused].Log.Count), before[paused].Log.Select(Seq));
        await a.KillAsync();

        // On the other host everything is as it was, the placeholder in the guest's memory as well as the value that stands for it.
        foreach (var id in (string[])[paused, live])
        {
            await Patience.EventuallyAsync(() => b.Api.ShellAsync(id, "true"));
            await CheckAsync(b.Api, id);
            var after = await b.Api.GetAsync($"/v1/sessions/{id}/egress");
            Assert.Equal("host-b", Text(await b.Api.GetAsync($"/v1/sessions/{id}"), "hostId"));
            foreach (var same in (string[])["policy", "version", "placeholders"])
            {
                Assert.Equal(before[id].Egress[same]!.ToJsonString(), after[same]!.ToJsonString());
            }
        }

        Assert.Equal("200", (await b.Api.ShellAsync(live, "curl -sSk -o /dev/null -w '%{http_code}' https://registry.test/simple/sbxdemo/")).Stdout);
        Assert.NotEqual(0, (await b.Api.ShellAsync(paused, "curl -sSk --max-time 10 https://registry.test/simple/sbxdemo/")).ExitCode);

        // The one that was paused goes on counting where it stopped. What the other's host had counted since it last said so went with it.
        var (then, now) = (before[paused].Egress["counters"]!, (await b.Api.GetAsync($"/v1/sessions/{paused}/egress"))["counters"]!);
        Assert.All((string[])["requests", "denied", "dnsQueries", "bytesDown"], c => Assert.True(now[c]!.GetValue<long>() > then[c]!.GetValue<long>(), $"{c}: {then} {now}"));
        var here = await LogAsync(b.Api, paused);
        Assert.Equal(before[paused].Log.Count + 1, Seq(here[0]));
        Assert.All(await LogAsync(b.Api, live), r => Assert.True(Seq(r) >= 1_000_000, r.ToJsonString()));

        // Once the first host is back, its part can be read again, and no line is there twice.
        await a.RestartAsync();
        foreach (var id in (string[])[paused, live])
        {
            var whole = await Patience.EventuallyAsync(async () =>
            {
                var log = await LogAsync(b.Api, id);
                Assert.Equal(1, Seq(log[0]));
                return log;
            });
            Assert.Equal(before[id].Log.Select(r => r.ToJsonString()), whole.Take(before[id].Log.Count).Select(r => r.ToJsonString()));
            Assert.Equal(whole.Select(Seq).Distinct().Order(), whole.Select(Seq));
            Assert.Contains(whole, r => r["generation"]?.GetValue<long>() > 1);
            await b.Api.DeleteSessionAsync(id);
        }

        Assert.DoesNotContain(Value, a.Log + b.Log, StringComparison.Ordinal);
        Assert.Empty(world.EvilSite.Requests);
    }

    [Fact]
    public async Task Another_tenant_is_as_far_away_as_a_stranger()
    {
        await using var postgres = await PostgresServer.StartAsync();
        await using var redis = await RedisServer.StartAsync();
        await using var server = await SandboxServer.StartAsync(null, [.. await ClusterArguments.MakeAsync(postgres, redis), "--config", world.Config, "--host-id", "host-of-both"]);
        await using var cluster = await ClusterClient.ConnectAsync(redis);
        var (one, two) = (cluster.Of("tenant-one"), cluster.Of("tenant-two"));
        foreach (var client in (SandboxClient[])[one, two])
        {
            await client.PutSecretAsync(new SecretSpec { Name = "cluster-token", Value = Value + client.Tenant, Hosts = ["api.test"] });
        }

        var (mine, theirs) = (await StartAsync(one), await StartAsync(two));
        await theirs.StartShellAsync("sudo python3 -m http.server 80 --bind 0.0.0.0");

        // By network: there is nobody, at no address that a session or a host of ours could have.
        Assert.Equal("", await ShellAsync(mine, "for a in 10.53.0.1 10.53.0.2:81 10.53.0.3 10.53.0.5 10.53.0.6 169.254.0.1 198.51.100.1; do curl -s --max-time 3 http://$a/ && echo LEAK $a; done; true"));

        // By secret: the same name, and neither the other's value nor the use of the other's placeholder.
        var (placeholder, other) = (await ShellAsync(mine, "printf %s $CLUSTER_TOKEN"), await ShellAsync(theirs, "printf %s $CLUSTER_TOKEN"));
        Assert.StartsWith("sbxs_", other, StringComparison.Ordinal);
        Assert.NotEqual(placeholder, other);
        await ShellAsync(mine, Ask);
        await ShellAsync(mine, $"curl -sS -H 'Authorization: Bearer {other}' https://api.test/echo");
        var sent = world.ApiSite.Requests.Select(r => r.Headers.GetValueOrDefault("Authorization") ?? "").ToList();
        Assert.Contains($"Bearer {Value}tenant-one", sent);
        Assert.DoesNotContain(sent, h => h.Contains(Value + "tenant-two", StringComparison.Ordinal));

        // By authority: each trusts its own alone, and is shown a site's certificate by its own alone.
        const string Issuer = "openssl s_client -connect api.test:443 -servername api.test -showcerts </dev/null 2>/dev/null | sed -n '/BEGIN/,/END/p' | tail -n +1";
        var chain = await ShellAsync(theirs, Issuer);
        Assert.Contains("BEGIN CERTIFICATE", chain, StringComparison.Ordinal);
        await mine.Files.WriteAsync("/tmp/theirs.pem", Encoding.ASCII.GetBytes(chain));
        await theirs.Files.WriteAsync("/tmp/own.pem", Encoding.ASCII.GetBytes(chain));
        const string Verify = "openssl verify -CApath /etc/ssl/certs -CAfile /etc/ssl/certs/ca-certificates.crt";
        Assert.Contains("OK", await ShellAsync(theirs, $"{Verify} /tmp/own.pem 2>&1"), StringComparison.Ordinal);
        Assert.DoesNotContain("OK", await ShellAsync(mine, $"{Verify} /tmp/theirs.pem 2>&1"), StringComparison.Ordinal);

        // By name: another's session, its policy and its log do not exist.
        var refused = await Assert.ThrowsAsync<SandboxException>(() => one.GetSession(theirs.Id).GetEgressAsync());
        Assert.Equal(SandboxErrorCode.NotFound, refused.Code);
        await mine.TerminateAsync();
        await theirs.TerminateAsync();

        Task<SandboxSession> StartAsync(SandboxClient client) => client.StartSessionAsync(new CreateSessionRequest
        {
            Needs = new SessionNeeds { Network = true },
            Egress = new EgressPolicy { Rules = [new EgressRule { Action = EgressAction.Allow, Host = "api.test" }], Secrets = ["cluster-token"] },
        });
    }

    private static async Task<string> ShellAsync(SandboxSession session, string command) => (await (await session.StartShellAsync(command)).CollectAsync()).Stdout;

    private static StringContent Policy(bool withRegistry = false) => new(
        $$"""{"rules": [{"action": "allow", "host": "api.test"}{{(withRegistry ? """, {"action": "allow", "host": "registry.test"}""" : "")}}], "secrets": ["cluster-token"]}""", null, "application/json");

    private static async Task<string> CreateAsync(SandboxApi api, JsonObject request)
    {
        request["egress"] = JsonNode.Parse(await Policy().ReadAsStringAsync());
        request["needs"] = new JsonObject { ["network"] = true };
        return Text(await api.CreateSessionAsync(request), "id");
    }

    /// <summary>What is allowed works, with the secret's value put in; what is not does not.</summary>
    private async Task CheckAsync(SandboxApi api, string id)
    {
        var before = world.ApiSite.Requests.Count(r => r.Headers.GetValueOrDefault("Authorization") == "Bearer " + Value);
        Assert.Contains("sbxs_", (await api.ShellAsync(id, Ask)).Stdout, StringComparison.Ordinal);
        Assert.Equal(before + 1, world.ApiSite.Requests.Count(r => r.Headers.GetValueOrDefault("Authorization") == "Bearer " + Value));
        Assert.NotEqual(0, (await api.ShellAsync(id, "curl -sS --max-time 10 http://evil.test/")).ExitCode);
    }

    private static async Task<List<JsonNode>> LogAsync(SandboxApi api, string id)
    {
        var records = new List<JsonNode>();
        for (var from = 1L; ;)
        {
            var page = await api.GetAsync($"/v1/sessions/{id}/egress/log?max=1000&from={from}");
            if (page["records"]!.AsArray() is not { Count: > 0 } more)
            {
                return records;
            }

            records.AddRange(more.Select(r => r!));
            from = page["next"]!.GetValue<long>();
        }
    }

    private static int Seq(JsonNode record) => record["seq"]!.GetValue<int>();
}
