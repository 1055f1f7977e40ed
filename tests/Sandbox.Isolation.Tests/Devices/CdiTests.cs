using System.Text;
using System.Text.Json.Nodes;
using Sandbox.Isolation.Devices;
using Sandbox.Isolation.Devices.Cdi;
using Xunit;

namespace Sandbox.Isolation.Tests.Devices;

/// <summary>Devices of the Container Device Interface, from their files into a container's configuration.</summary>
public sealed class CdiTests : IDisposable
{
    private const string Gpu = """
        {
          "cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
          "containerEdits": { "env": ["VISIBLE=none"], "mounts": [{ "hostPath": "/usr/lib/libgpu.so", "containerPath": "/usr/lib/libgpu.so", "options": ["ro", "nosuid", "bind"] }] },
          "devices": [
            { "name": "0", "containerEdits": { "env": ["VISIBLE=0"], "deviceNodes": [{ "path": "/dev/gpu0", "type": "c", "major": 195, "minor": 0, "permissions": "rw", "fileMode": 438 }], "additionalGids": [44, 0] } },
            { "name": "1", "containerEdits": { "deviceNodes": [{ "path": "/dev/gpu1", "hostPath": "/dev/real1" }] } },
            { "name": "hooked", "containerEdits": { "hooks": [{ "hookName": "createContainer", "path": "/usr/bin/hook", "args": ["hook", "--now"], "timeout": 5 }] } },
            { "name": "net", "containerEdits": { "netDevices": [{ "hostInterfaceName": "eth0", "name": "eth0" }] } },
            { "name": "up", "containerEdits": { "mounts": [{ "hostPath": "/a/../etc", "containerPath": "/x" }] } }
          ]
        }
        """;

    private readonly string _folder = Directory.CreateTempSubdirectory("cdi-").FullName;

    [Fact]
    public void A_device_adds_its_nodes_mounts_and_variables_and_its_files_once()
    {
        Write("gpu.json", Gpu);
        var config = Config();

        Injector().Apply(config, ["vendor.com/gpu=0", "vendor.com/gpu=1", "vendor.com/gpu=0"]);

        Assert.Equal(["PATH=/bin", "VISIBLE=0"], config["process"]!["env"]!.AsArray().Select(e => e!.GetValue<string>()));
        Assert.Equal(["/proc", "/usr/lib/libgpu.so"], config["mounts"]!.AsArray().Select(m => m!["destination"]!.GetValue<string>()));
        Assert.Equal("""[{"path":"/dev/gpu0","type":"c","major":195,"minor":0,"fileMode":438},{"path":"/dev/gpu1","type":"c","major":7,"minor":8}]""", config["linux"]!["devices"]!.ToJsonString());
        Assert.Equal(
            """[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":195,"minor":0,"access":"rw"},{"allow":true,"type":"c","major":7,"minor":8,"access":"rw"}]""",
            config["linux"]!["resources"]!["devices"]!.ToJsonString());
        Assert.Equal("[44]", config["process"]!["user"]!["additionalGids"]!.ToJsonString());
        Assert.Equal("kept", config["hostname"]!.GetValue<string>());
    }

    [Theory]
    [InlineData("vendor.com/gpu=hooked", "/usr/bin/hook run on the host as root")]
    [InlineData("vendor.com/gpu=net", "network devices")]
    [InlineData("vendor.com/gpu=up", "no absolute path without '..'")]
    [InlineData("vendor.com/gpu=7", "has no CDI device 'vendor.com/gpu=7'; it has: vendor.com/gpu=0")]
    public void What_is_not_allowed_changes_nothing(string name, string said)
    {
        Write("gpu.json", Gpu);
        var config = Config();
        var before = config.ToJsonString();

        var e = Assert.Throws<DeviceException>(() => Injector().Apply(config, ["vendor.com/gpu=0", name]));

        Assert.Contains(said, e.Message, StringComparison.Ordinal);
        Assert.Equal(before, config.ToJsonString());
    }

    [Fact]
    public void Where_no_node_can_be_made_the_hosts_is_mounted_in_its_place()
    {
        Write("gpu.json", Gpu);
        var config = Config();

        new CdiInjector(CdiRegistry.Read([_folder])) { MountNodes = true, Stat = _ => new DeviceNodeNumbers("c", 7, 8) }.Apply(config, ["vendor.com/gpu=1"]);

        Assert.Null(config["linux"]!["devices"]);
        Assert.Contains("""{"destination":"/dev/gpu1","type":"bind","source":"/dev/real1","options":["bind","rw","nosuid","noexec"]}""", config["mounts"]!.AsArray().Select(m => m!.ToJsonString()));
        Assert.Contains("""{"allow":true,"type":"c","major":7,"minor":8,"access":"rw"}""", config["linux"]!["resources"]!["devices"]!.AsArray().Select(d => d!.ToJsonString()));
    }

    [Fact]
    public void A_hook_that_an_operator_allows_is_added()
    {
        Write("gpu.json", Gpu);
        var config = Config();
        new CdiInjector(CdiRegistry.Read([_folder])) { AllowedHooks = new HashSet<string> { "/usr/bin/hook" } }.Apply(config, ["vendor.com/gpu=hooked"]);
        Assert.Equal("""{"createContainer":[{"path":"/usr/bin/hook","args":["hook","--now"],"timeout":5}]}""", config["hooks"]!.ToJsonString());
    }

    [Fact]
    public void A_node_that_the_host_does_not_have_is_missed_by_name()
    {
        Write("gpu.json", Gpu);
        var e = Assert.Throws<DeviceException>(() => new CdiInjector(CdiRegistry.Read([_folder])) { Stat = _ => null }.Apply(Config(), ["vendor.com/gpu=1"]));
        Assert.Contains("/dev/real1, which this host does not have", e.Message, StringComparison.Ordinal);
        Assert.Equal(new DeviceNodeNumbers("c", 1, 3), DeviceNodeNumbers.Of("/dev/null"));
        Assert.Null(DeviceNodeNumbers.Of("/etc/passwd"));
        Assert.Null(DeviceNodeNumbers.Of("/dev/no-such-node"));
    }

    [Theory]
    [InlineData("", "not as the interface has it")]
    [InlineData("[]", "not as the interface has it")]
    [InlineData("""{"cdiVersion":"0.6.0","kind":"vendor.com/gpu"}""", "not as the interface has it")]
    [InlineData("""{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","devices":[],"extra":1}""", "not as the interface has it")]
    [InlineData("""{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","devices":[]}""", "has no devices")]
    [InlineData("""{"cdiVersion":"9.0.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":{}}]}""", "version 9.0.0 is not known")]
    [InlineData("""{"cdiVersion":"0.6.0","kind":"gpu","devices":[{"name":"0","containerEdits":{}}]}""", "no kind of device")]
    [InlineData("""{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","devices":[{"name":"../0","containerEdits":{}}]}""", "no name of a device")]
    [InlineData("""{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":{}},{"name":"0","containerEdits":{}}]}""", "is there twice")]
    [InlineData("""{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":{"env":null}}]}""", "not as the interface has it")]
    [InlineData("""{"cdiVersion":"0.6.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":{"deviceNodes":[{"permissions":"r"}]}}]}""", "not as the interface has it")]
    public void A_file_that_is_not_as_it_should_be_is_refused_and_takes_no_other_with_it(string content, string said)
    {
        Assert.Contains(said, Assert.Throws<DeviceException>(() => CdiSpec.Parse(Encoding.UTF8.GetBytes(content), "x.json")).Message, StringComparison.Ordinal);
        Write("a.json", content);
        Write("gpu.json", Gpu);
        Write("old.yaml", "cdiVersion: 0.6.0");
        var registry = CdiRegistry.Read([_folder]);
        Assert.Equal(5, registry.Names.Count);
        Assert.Equal(2, registry.Problems.Count);
    }

    [Fact]
    public void The_later_directory_goes_before_and_two_files_of_one_directory_cancel_each_other()
    {
        var later = Path.Combine(_folder, "later");
        Directory.CreateDirectory(later);
        Write("gpu.json", Gpu);
        const string One = """{"cdiVersion":"1.0.0","kind":"vendor.com/gpu","devices":[{"name":"NAME","containerEdits":{"env":["FROM=later"]}}]}""";
        Write("later/a.json", One.Replace("NAME", "0", StringComparison.Ordinal));
        Write("later/b.json", One.Replace("NAME", "1", StringComparison.Ordinal));
        Write("later/c.json", One.Replace("NAME", "1", StringComparison.Ordinal));

        var registry = CdiRegistry.Read([_folder, later, "/nowhere"]);

        Assert.Equal("FROM=later", registry.Find("vendor.com/gpu=0").Device.ContainerEdits.Env.Single());
        Assert.Throws<DeviceException>(() => registry.Find("vendor.com/gpu=1"));
        Assert.Contains("used from neither", Assert.Single(registry.Problems), StringComparison.Ordinal);
    }

    [Fact]
    public void A_configuration_that_is_none_is_refused()
    {
        Write("gpu.json", Gpu);
        var config = new JsonObject { ["linux"] = new JsonArray() };
        Assert.Contains("'linux' of another kind", Assert.Throws<DeviceException>(() => Injector().Apply(config, ["vendor.com/gpu=0"])).Message, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static JsonObject Config() => JsonNode.Parse(
        """{"hostname":"kept","process":{"env":["PATH=/bin"]},"mounts":[{"destination":"/proc"}],"linux":{"resources":{"devices":[{"allow":false,"access":"rwm"}]}}}""")!.AsObject();

    private CdiInjector Injector() => new(CdiRegistry.Read([_folder])) { Stat = path => path == "/dev/real1" ? new DeviceNodeNumbers("c", 7, 8) : null };

    private void Write(string name, string content) => File.WriteAllText(Path.Combine(_folder, name), content);
}
