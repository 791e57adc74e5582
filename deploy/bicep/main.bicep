// Remote writes to an Azure Monitor workspace through authproxy in a Container App: the identity, its role
// on the workspace's data collection rule, and the app. docs/container.md#container-apps
targetScope = 'resourceGroup'

@description('Of the app and of its identity.')
param name string = 'authproxy'

param location string = resourceGroup().location

@description('The image, such as myregistry.azurecr.io/authproxy:0.1.0.')
param image string

@description('Resource ID of the Azure Container Registry that has the image; none for a public one.')
param registryId string = ''

@description('Resource ID of the Container Apps environment. Whatever reaches it can use the identity.')
param environmentId string

@description('The "Metrics ingestion endpoint" of the workspace, whole.')
param ingestionUrl string

@description('Resource ID of the data collection rule of the workspace.')
param ruleId string

// Expressions of a module are read also where its condition is false.
var registry = split(empty(registryId) ? resourceGroup().id : registryId, '/')

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
}

module role 'role.bicep' = {
  name: '${name}-role'
  scope: resourceGroup(split(ruleId, '/')[2], split(ruleId, '/')[4])
  params: {
    ruleName: last(split(ruleId, '/'))
    principalId: identity.properties.principalId
  }
}

module pull 'pull.bicep' = if (!empty(registryId)) {
  name: '${name}-pull'
  scope: resourceGroup(registry[2], registry[4])
  params: {
    registryName: last(registry)
    principalId: identity.properties.principalId
  }
}

resource app 'Microsoft.App/containerApps@2024-03-01' = {
  name: name
  location: location
  dependsOn: [pull]
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identity.id}': {}
    }
  }
  properties: {
    environmentId: environmentId
    configuration: {
      // From within the environment and its network only.
      ingress: {
        external: false
        targetPort: 8081
        transport: 'http'
      }
      registries: empty(registryId) ? [] : [
        {
          server: '${last(registry)}.azurecr.io'
          identity: identity.id
        }
      ]
    }
    template: {
      // More than SHUTDOWN_DELAY_SECONDS and SHUTDOWN_GRACE_SECONDS together.
      terminationGracePeriodSeconds: 35
      containers: [
        {
          name: 'authproxy'
          image: image
          env: [
            { name: 'INGESTION_URL', value: ingestionUrl }
            { name: 'IDENTITY_TYPE', value: 'userAssigned' }
            { name: 'AAD_CLIENT_ID', value: identity.properties.clientId }
            { name: 'LISTENING_PORT', value: '8081' }
            { name: 'SHUTDOWN_DELAY_SECONDS', value: '5' }
            { name: 'SHUTDOWN_GRACE_SECONDS', value: '25' }
          ]
          probes: [
            { type: 'Startup', httpGet: { path: '/health', port: 8081 }, periodSeconds: 1, failureThreshold: 10 }
            { type: 'Liveness', httpGet: { path: '/health', port: 8081 }, timeoutSeconds: 5 }
            { type: 'Readiness', httpGet: { path: '/ready', port: 8081 }, periodSeconds: 5, timeoutSeconds: 5 }
          ]
          resources: {
            cpu: json('0.25')
            memory: '0.5Gi'
          }
        }
      ]
      scale: {
        minReplicas: 2
        maxReplicas: 4
      }
    }
  }
}

@description('What Prometheus writes to.')
output remoteWriteUrl string = 'https://${app.properties.configuration.ingress.fqdn}/api/v1/write'
