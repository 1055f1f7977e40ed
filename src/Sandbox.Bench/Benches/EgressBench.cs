using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Sandbox.Bench.Egress;
using Sandbox.Bench.Machines;
using Sandbox.Bench.Measuring;
using Sandbox.Bench.Report;
using Sandbox.Bench.Serving;
using Sandbox.Egress.Proxy;
using Sandbox.Egress.Proxy.Tls;
using Sandbox.Isolation.Backends;
using Sandbox.Isolation.Network;

namespace Sandbox.Bench.Benches;

/// <summary>What the controlled door costs a guest: requests and downloads over TLS, to a server that listens in its own network with nothing between, by name only, and looked into.</summary>
internal sealed class EgressBench : IBench
{
    private const string ThroughputTarget = "name-only download ≥ 0.8 × direct";
    private const string LatencyTarget = "name-only adds to a request p50 ≤ 1 ms";
    private const string ChangeTarget = "a change of policy is in force after p50 ≤ 100 ms";
    private const int Requests = 20;
    private const long Download = 16L << 20;

    /// <summary>One connection: how long until its first answer, then requests one by one, then a download. Certificates are not what is measured.</summary>
    private const string Guest = """
        import json, socket, ssl, sys, time
        address, name, requests, download = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        buffer = bytearray(262144)

        def get(s, path, body):
            s.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, name)).encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += s.recv(65536)
            got = len(head.split(b"\r\n\r\n", 1)[1])
            while got < body:
                got += s.recv_into(buffer)

        began = time.perf_counter()
        with socket.create_connection((address, 443)) as raw:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(raw, server_hostname=name) as s:
                get(s, "/small", 2)
                connect = time.perf_counter() - began
                times = []
                for _ in range(requests):
                    began = time.perf_counter()
                    get(s, "/small", 2)
                    times.append((time.perf_counter() - began) * 1000)
                began = time.perf_counter()
                get(s, "/bulk?n=%d" % download, download)
                print(json.dumps({"connect": connect * 1000, "requests": times, "rate": download / 1048576 / (time.perf_counter() - began)}))
        """;

    public string Name => "egress";

    public string Summary => "the controlled door: requests and downloads by name and looked into, against none; networks and sessions with one per second";

    public IReadOnlyList<string> Targets => [ThroughputTarget, LatencyTarget, ChangeTarget];

    public async Task<BenchResult> RunAsync(BenchContext context, CancellationToken cancellationToken)
    {
        var rounds = context.SamplesOr(8);
        await using var own = new OwnBackend(context);
        var verdict = await own.Backend.ProbeAsync(cancellationToken);
        if (!own.Backend.Capabilities.Network)
        {
            throw new BenchException($"machines have no network here: {string.Join("; ", verdict.Warnings)}");
        }

        await own.GoldenAsync(cancellationToken);
        var machines = new List<IMicroVm>();
        try
        {
            for (var i = 0; i < 3; i++)
            {
                machines.Add(await own.Backend.StartAsync(own.Spec(), cancellationToken));
            }

            var (direct, byName, inside) = await WaysAsync(machines, rounds, context, cancellationToken);
            var (networks, sessions) = await RatesAsync(own, rounds, cancellationToken);
            var changes = await ChangesAsync(context, 2 * rounds, cancellationToken);
            var ratio = byName.Rate.Median / direct.Rate.Median;
            return new BenchResult
            {
                Name = Name,
                Headline = new Figure("name_only_mib_per_s", byName.Rate.Median),
                Baseline = new Figure("MiB/s from a server in the machine's own network", direct.Rate.Median),
                Ratio = ratio,
                Verdicts = [new Verdict(ThroughputTarget, ratio, 0.8, AtLeast: true), new Verdict(LatencyTarget, byName.Request.Median - direct.Request.Median, 1), new Verdict(ChangeTarget, changes.Median, 100)],
                Rows =
                [
                    .. direct.Rows("direct"), .. byName.Rows("name only"), .. inside.Rows("looked into"),
                    new Row("a change of policy over HTTP, until it is in force", "ms", changes),
                    new Row("making a network", "ms", networks),
                    new Row("sessions with a network, one after another", "1/s", sessions),
                ],
            };
        }
        finally
        {
            foreach (var machine in machines)
            {
                await machine.DisposeAsync();
            }
        }
    }

    private static async Task<(Way Direct, Way ByName, Way Inside)> WaysAsync(List<IMicroVm> machines, int rounds, BenchContext context, CancellationToken cancellationToken)
    {
        using var listener = machines[0].Network!.Listen(NetworkPlan.ProxyPort);
        await BenchDoor.LetInAsync(machines[0].Network!, cancellationToken);
        await using var origin = await BenchOrigin.StartAsync(listener, cancellationToken);
        await using var host = await ProxyHost.StartAsync(new ProxyOptions { UpstreamRoots = [origin.Certificate] }, origin);
        using var authority = TenantAuthority.Create("bench");
        var certificates = new LeafCertificates(authority);
        await using var named = await BenchDoor.OpenAsync(host, machines[1].Network!, intercept: false, certificates, cancellationToken);
        await using var looked = await BenchDoor.OpenAsync(host, machines[2].Network!, intercept: true, certificates, cancellationToken);
        Way[] ways = [new(), new(), new()];
        for (var round = -1; round < rounds; round++)
        {
            // In turn, so that a noisy moment meets all three; the first round fills caches.
            for (var i = 0; i < ways.Length; i++)
            {
                string[] argv = ["python3", "-c", Guest, BenchDoor.Address.ToString(), BenchOrigin.Name, Requests.ToString(CultureInfo.InvariantCulture), Download.ToString(CultureInfo.InvariantCulture)];
                var said = JsonDocument.Parse(await GuestRuns.TextAsync(machines[i].Guest, argv, cancellationToken)).RootElement;
                if (round >= 0)
                {
                    ways[i].Add(said);
                }
            }

            context.Say($"round {round + 1}/{rounds}: direct {ways[0]}, by name {ways[1]}, looked into {ways[2]}");
        }

        return (ways[0], ways[1], ways[2]);
    }

    /// <summary>Changes of the policy of a live session: every other one asks for a look inside, and each takes away what the one before allowed.</summary>
    private static async Task<Distribution> ChangesAsync(BenchContext context, int samples, CancellationToken cancellationToken)
    {
        await using var server = await PrivateServer.StartAsync(context, new Dictionary<string, string> { ["warmPool"] = "0" }, null, cancellationToken);
        var session = SandboxHttp.Text(await server.Http.CreateAsync(new JsonObject { ["needs"] = new JsonObject { ["network"] = true }, ["egress"] = Policy(0) }, cancellationToken), "id");
        var taken = new List<TimeSpan>();
        for (var i = 1; i <= samples + 2; i++)
        {
            var began = Stopwatch.GetTimestamp();
            await server.Http.SetEgressAsync(session, Policy(i), cancellationToken);
            taken.Add(Stopwatch.GetElapsedTime(began));
        }

        await server.Http.DeleteQuietlyAsync(session);

        // The first two make the tenant's authority, and compile.
        return Distribution.OfMilliseconds(taken.Skip(2));

        static JsonObject Policy(int i) => new()
        {
            ["presets"] = new JsonArray("pip", "npm", "github"),
            ["rules"] = new JsonArray(
                new JsonObject { ["action"] = "allow", ["host"] = $"api{i}.example.com", ["methods"] = i % 2 == 0 ? new JsonArray("GET") : [] },
                new JsonObject { ["action"] = "allow", ["cidr"] = $"1.1.{i}.0/24", ["ports"] = new JsonArray(443) }),
        };
    }

    private static async Task<(Distribution Networks, Distribution Sessions)> RatesAsync(OwnBackend own, int samples, CancellationToken cancellationToken)
    {
        var networks = new List<TimeSpan>();
        await using (var pool = new GuestNetworkPool(Path.Combine(own.Directory, "net"), GuestInterfaceKind.Tap, new GuestNetworkOptions { Ready = 0 }))
        {
            for (var i = 0; i <= samples; i++)
            {
                var began = Stopwatch.GetTimestamp();
                await using var network = await pool.TakeAsync(cancellationToken);
                networks.Add(Stopwatch.GetElapsedTime(began));
            }
        }

        var sessions = new List<double>();
        for (var i = 0; i < samples; i++)
        {
            var began = Stopwatch.GetTimestamp();
            await using var machine = await own.Backend.StartAsync(own.Spec(), cancellationToken);
            sessions.Add(1 / Stopwatch.GetElapsedTime(began).TotalSeconds);
        }

        // The first one finds out whether networks can be made at all.
        return (Distribution.OfMilliseconds(networks.Skip(1)), Distribution.Of(sessions));
    }

    /// <summary>One way there.</summary>
    private sealed class Way
    {
        private readonly List<double> _connects = [];
        private readonly List<double> _requests = [];
        private readonly List<double> _rates = [];

        public Distribution Request => Distribution.Of(_requests);

        public Distribution Rate => Distribution.Of(_rates);

        public void Add(JsonElement said)
        {
            _connects.Add(said.GetProperty("connect").GetDouble());
            _requests.AddRange(said.GetProperty("requests").EnumerateArray().Select(r => r.GetDouble()));
            _rates.Add(said.GetProperty("rate").GetDouble());
        }

        public IEnumerable<Row> Rows(string name) =>
        [
            new Row($"{name}: connection to first answer", "ms", Distribution.Of(_connects)), new Row($"{name}: a request", "ms", Request), new Row($"{name}: download", "MiB/s", Rate),
        ];

        public override string ToString() => _rates.Count == 0 ? "–" : string.Create(CultureInfo.InvariantCulture, $"{Request.Median:0.0} ms, {Rate.Median:0.0} MiB/s");
    }
}
