using Sandbox.Abstractions;

namespace Sandbox.Grains.Scheduling;

/// <summary>What is stored of a template.</summary>
[GenerateSerializer, Alias("sandbox.state.template")]
internal sealed record TemplateState
{
    [Id(0)] public TemplateVersion? Current { get; set; }
}

/// <summary>A template. The newest version is stored; which hosts have it is what hosts last said.</summary>
internal sealed class TemplateGrain(
    [PersistentState("template", StorageNames.Provider)] IPersistentState<TemplateState> state) : Grain, ITemplateGrain
{
    private readonly Dictionary<string, string> _hosts = new(StringComparer.Ordinal);

    public Task<TemplateInfo> GetAsync()
    {
        var id = this.GetPrimaryKeyString();
        return state.State.Current is { } current
            ? Task.FromResult(new TemplateInfo
            {
                Id = id,
                Current = current,
                Hosts = [.. _hosts.Where(h => h.Value == current.Version).Select(h => h.Key).Order(StringComparer.Ordinal)],
            })
            : throw SandboxException.NotFound($"No host has ever had a template '{id}'.");
    }

    public async Task ReportAsync(string hostId, TemplateVersion version)
    {
        _hosts[hostId] = version.Version;
        if (state.State.Current is not { } current || version.BuiltAt > current.BuiltAt || (version.BuiltAt == current.BuiltAt && version.Version == current.Version && !Same(version, current)))
        {
            state.State = new TemplateState { Current = version };
            await state.WriteStateAsync();
        }
    }

    private static bool Same(TemplateVersion a, TemplateVersion b) =>
        (a with { Languages = [] }) == (b with { Languages = [] }) && a.Languages.SequenceEqual(b.Languages);
}
