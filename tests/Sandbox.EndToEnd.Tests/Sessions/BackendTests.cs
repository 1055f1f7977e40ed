using System.Net;
using System.Text.Json.Nodes;
using Sandbox.EndToEnd.Tests.Harness;
using Xunit;
using static Sandbox.EndToEnd.Tests.Harness.SandboxApi;

namespace Sandbox.EndToEnd.Tests.Sessions;

/// <summary>Sessions on every isolation backend that works here, through HTTP: what each promises is kept, and what it does not is refused before anything is made.</summary>
public sealed class BackendTests
{
    [Fact]
    public async Task A_session_is_isolated_as_it_asks_and_keeps_what_its_backend_promises()
    {
        await using var server = SandboxServer.PrepareWith("qemu,firecracker,gvisor,oci", "--warm-pool", "1");
        await server.RestartAsync();
        var api = server.Api;
        await api.UntilHostsAsync(hosts => hosts.Count == 1 && hosts[0]!["backends"]!.AsArray().All(b => b!["probing"]?.GetValue<bool>() != true), TimeSpan.FromMinutes(1));

        // Nothing named: the strongest.
        var strongest = await api.CreateSessionAsync();
        Assert.Equal("qemu", Text(strongest, "backend"));
        await api.DeleteSessionAsync(Text(strongest, "id"));

        // gVisor takes untrusted code, and a pause keeps its variables.
        var gvisor = await api.CreateSessionAsync(new JsonObject { ["backend"] = "gvisor" });
        Assert.Equal("gvisor", Text(gvisor, "backend"));
        var id = Text(gvisor, "id");
        await api.RunAsync(id, new JsonObject { ["code"] = "x = 41" });
        Assert.Contains("gVisor", (await api.ShellAsync(id, "dmesg 2>/dev/null | head -3; cat /proc/version")).Stdout, StringComparison.OrdinalIgnoreCase);
        await api.PostAsync($"/v1/sessions/{id}/pause");
        Assert.Equal("42\n", (await api.RunAsync(id, new JsonObject { ["code"] = "print(x + 1)" })).Stdout);
        await api.DeleteSessionAsync(id);

        // The host's kernel: only for code that its owner trusts; a pause keeps its files, and it says so beforehand.
        using (var refused = await server.Http.PostAsync(new Uri("/v1/sessions?wait=10", UriKind.Relative), new StringContent("{\"backend\": \"oci\"}", null, "application/json")))
        {
            Assert.Equal(HttpStatusCode.UnprocessableEntity, refused.StatusCode);
            Assert.Contains("shares the host", await refused.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        }

        var oci = await api.CreateSessionAsync(new JsonObject { ["backend"] = "oci", ["untrusted"] = false });
        id = Text(oci, "id");
        Assert.Contains("files only", oci["warnings"]!.ToJsonString(), StringComparison.Ordinal);
        await api.RunAsync(id, new JsonObject { ["code"] = "x = 41; _ = open('kept', 'w').write('file')" });
        await api.PostAsync($"/v1/sessions/{id}/pause");
        Assert.Equal("file", (await api.ShellAsync(id, "cat kept")).Stdout);
        Assert.Contains((await api.RunAsync(id, new JsonObject { ["code"] = "x" })).Events, e => e.Kind == "codeError" && e.Data["name"]!.ToString() == "NameError");
        var fork = (await api.PostAsync($"/v1/sessions/{id}/fork", new { count = 1 }, HttpStatusCode.Created))["sessions"]![0]!;
        Assert.Equal("file", (await api.ShellAsync(Text(fork, "id"), "cat kept")).Stdout);
        await api.DeleteSessionAsync(Text(fork, "id"));
        await api.DeleteSessionAsync(id);

        // Needs that nobody meets are refused with the reason for each host.
        using (var refused = await server.Http.PostAsync(new Uri("/v1/sessions?wait=10", UriKind.Relative), new StringContent("{\"needs\": {\"devices\": [{\"kind\": \"gpu\"}]}}", null, "application/json")))
        {
            Assert.Equal(HttpStatusCode.UnprocessableEntity, refused.StatusCode);
            Assert.Contains("Looked at: ", await refused.Content.ReadAsStringAsync(), StringComparison.Ordinal);
        }
    }
}
